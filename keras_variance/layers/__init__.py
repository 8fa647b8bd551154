"""Stochastic layers, and what finds them in a model."""

from keras_variance.layers.base import VarianceLayer
from keras_variance.layers.conv import (
    VarianceConv1D,
    VarianceConv1DTranspose,
    VarianceConv2D,
    VarianceConv2DTranspose,
    VarianceConv3D,
    VarianceConv3DTranspose,
    VarianceDepthwiseConv1D,
    VarianceDepthwiseConv2D,
)
from keras_variance.layers.dense import VarianceDense
from keras_variance.layers.einsum import VarianceEinsumDense
from keras_variance.layers.embedding import VarianceEmbedding
from keras_variance.layers.learned_scale import LearnedScale
from keras_variance.layers.paths import layer_paths, variance_layers
from keras_variance.layers.separable import (
    VarianceSeparableConv1D,
    VarianceSeparableConv2D,
)
from keras_variance.layers.train_size import set_train_size
from keras_variance.layers.wrapper import VarianceWrapper

__all__ = [
    "LearnedScale",
    "VarianceConv1D",
    "VarianceConv1DTranspose",
    "VarianceConv2D",
    "VarianceConv2DTranspose",
    "VarianceConv3D",
    "VarianceConv3DTranspose",
    "VarianceDense",
    "VarianceDepthwiseConv1D",
    "VarianceDepthwiseConv2D",
    "VarianceEinsumDense",
    "VarianceEmbedding",
    "VarianceLayer",
    "VarianceSeparableConv1D",
    "VarianceSeparableConv2D",
    "VarianceWrapper",
    "layer_paths",
    "set_train_size",
    "variance_layers",
]
