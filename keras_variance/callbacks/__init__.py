from keras_variance.callbacks.gradual_pruning import GradualPruning
from keras_variance.callbacks.kl_annealing import KLAnnealing
from keras_variance.callbacks.mc_predict import MCPredict

__all__ = ["GradualPruning", "KLAnnealing", "MCPredict"]
