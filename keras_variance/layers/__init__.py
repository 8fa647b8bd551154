import keras

from keras_variance.layers.base import VarianceLayer, add_bias, effective_kernel
from keras_variance.layers.conv import (
    VarianceConv1D,
    VarianceConv2D,
    VarianceConv2DTranspose,
    VarianceConv3D,
    VarianceDepthwiseConv2D,
)
from keras_variance.layers.dense import VarianceDense
from keras_variance.layers.paths import (
    choose,
    find_variance_layers,
    layer_paths,
    variance_layers,
)
from keras_variance.layers.weights import RandomWeight, RandomWeights
from keras_variance.layers.wrapper import VarianceWrapper

# The variance layer of each stock layer
VARIANCE_LAYERS = {
    keras.layers.Dense: VarianceDense,
    keras.layers.Conv1D: VarianceConv1D,
    keras.layers.Conv2D: VarianceConv2D,
    keras.layers.Conv3D: VarianceConv3D,
    keras.layers.Conv2DTranspose: VarianceConv2DTranspose,
    keras.layers.DepthwiseConv2D: VarianceDepthwiseConv2D,
}

__all__ = [
    "VARIANCE_LAYERS",
    "RandomWeight",
    "RandomWeights",
    "VarianceConv1D",
    "VarianceConv2D",
    "VarianceConv2DTranspose",
    "VarianceConv3D",
    "VarianceDense",
    "VarianceDepthwiseConv2D",
    "VarianceLayer",
    "VarianceWrapper",
    "add_bias",
    "choose",
    "effective_kernel",
    "find_variance_layers",
    "layer_paths",
    "variance_layers",
]
