from keras_variance.evaluation.evaluation import evaluate
from keras_variance.evaluation.report import Evaluation

__all__ = ["Evaluation", "evaluate"]
