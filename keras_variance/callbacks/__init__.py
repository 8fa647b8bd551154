from keras_variance.callbacks.check_train_size import CheckTrainSize
from keras_variance.callbacks.gradual_pruning import GradualPruning
from keras_variance.callbacks.kl_annealing import KLAnnealing
from keras_variance.callbacks.mc_predict import MCPredict

__all__ = ["CheckTrainSize", "GradualPruning", "KLAnnealing", "MCPredict"]
