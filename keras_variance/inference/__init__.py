from keras_variance.inference.curves import Point, sparsity_curve
from keras_variance.inference.evidence import ELBO, elbo
from keras_variance.inference.log_likelihoods import log_likelihood
from keras_variance.inference.predict import Prediction, mc_predict, moment_predict
from keras_variance.inference.summaries import (
    LayerStatistics,
    layer_statistics,
    summary,
)

__all__ = [
    "ELBO",
    "LayerStatistics",
    "Point",
    "Prediction",
    "elbo",
    "layer_statistics",
    "log_likelihood",
    "mc_predict",
    "moment_predict",
    "sparsity_curve",
    "summary",
]
