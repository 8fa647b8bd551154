from keras_variance.inference.curves import Point, sparsity_curve
from keras_variance.inference.elbo import ELBO, elbo
from keras_variance.inference.predict import Prediction, mc_predict, moment_predict
from keras_variance.inference.summary import LayerStatistics, layer_statistics, summary

__all__ = [
    "ELBO",
    "LayerStatistics",
    "Point",
    "Prediction",
    "elbo",
    "layer_statistics",
    "mc_predict",
    "moment_predict",
    "sparsity_curve",
    "summary",
]
