"""Stochastic layers for Keras 3 whose information lives in the variance."""

from keras_variance import (
    callbacks,
    estimators,
    likelihoods,
    metrics,
    plots,
    random,
    serving,
    transforms,
)
from keras_variance.distributions import noises, posteriors, priors
from keras_variance.inference import (
    ELBO,
    LayerStatistics,
    Prediction,
    elbo,
    layer_statistics,
    mc_predict,
    moment_predict,
    sparsity_curve,
    summary,
)
from keras_variance.layers import (
    VarianceConv1D,
    VarianceConv2D,
    VarianceConv2DTranspose,
    VarianceConv3D,
    VarianceDense,
    VarianceDepthwiseConv2D,
    VarianceLayer,
    VarianceWrapper,
)
from keras_variance.pruning import (
    SparsityReport,
    prune,
    sparsity,
    sparsity_report,
)
from keras_variance.serving.export import export
from keras_variance.transforms import moments
from keras_variance.version import __version__

__all__ = [
    "ELBO",
    "LayerStatistics",
    "Prediction",
    "SparsityReport",
    "VarianceConv1D",
    "VarianceConv2D",
    "VarianceConv2DTranspose",
    "VarianceConv3D",
    "VarianceDense",
    "VarianceDepthwiseConv2D",
    "VarianceLayer",
    "VarianceWrapper",
    "__version__",
    "callbacks",
    "elbo",
    "estimators",
    "export",
    "layer_statistics",
    "likelihoods",
    "mc_predict",
    "metrics",
    "moment_predict",
    "moments",
    "noises",
    "plots",
    "posteriors",
    "priors",
    "prune",
    "random",
    "serving",
    "sparsity",
    "sparsity_curve",
    "sparsity_report",
    "summary",
    "transforms",
]
