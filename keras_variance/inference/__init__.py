from keras_variance.inference import metrics
from keras_variance.inference.elbo import ELBO, elbo
from keras_variance.inference.moments import moment_predict
from keras_variance.inference.predict import Prediction, mc_predict
from keras_variance.inference.summary import LayerStatistics, layer_statistics, summary

__all__ = [
    "ELBO",
    "LayerStatistics",
    "Prediction",
    "elbo",
    "layer_statistics",
    "mc_predict",
    "metrics",
    "moment_predict",
    "summary",
]
