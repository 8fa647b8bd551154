from keras_variance.layers.base import VarianceLayer, variance_layers
from keras_variance.layers.conv import (
    VarianceConv1D,
    VarianceConv2D,
    VarianceConv2DTranspose,
    VarianceConv3D,
    VarianceDepthwiseConv2D,
)
from keras_variance.layers.dense import VarianceDense

__all__ = [
    "VarianceConv1D",
    "VarianceConv2D",
    "VarianceConv2DTranspose",
    "VarianceConv3D",
    "VarianceDense",
    "VarianceDepthwiseConv2D",
    "VarianceLayer",
    "variance_layers",
]
