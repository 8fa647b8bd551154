"""Stochastic layers for Keras 3 whose information lives in the variance."""

from keras_variance import estimators, random
from keras_variance.distributions import noises, posteriors, priors
from keras_variance.layers import (
    VarianceConv1D,
    VarianceConv2D,
    VarianceConv2DTranspose,
    VarianceConv3D,
    VarianceDense,
    VarianceDepthwiseConv2D,
    VarianceLayer,
)
from keras_variance.version import __version__

__all__ = [
    "VarianceConv1D",
    "VarianceConv2D",
    "VarianceConv2DTranspose",
    "VarianceConv3D",
    "VarianceDense",
    "VarianceDepthwiseConv2D",
    "VarianceLayer",
    "__version__",
    "estimators",
    "noises",
    "posteriors",
    "priors",
    "random",
]
