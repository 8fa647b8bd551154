from keras_variance.layers.base import VarianceLayer, add_bias
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
from keras_variance.layers.paths import (
    choose,
    find_variance_layers,
    layer_paths,
    variance_layers,
)
from keras_variance.layers.stock import (
    VARIANCE_LAYERS,
    declared,
    effective_kernel,
    stock_class,
)
from keras_variance.layers.train_size import set_train_size
from keras_variance.layers.weights import RandomWeight, RandomWeights
from keras_variance.layers.wrapper import VarianceWrapper

__all__ = [
    "VARIANCE_LAYERS",
    "RandomWeight",
    "RandomWeights",
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
    "VarianceWrapper",
    "add_bias",
    "choose",
    "declared",
    "effective_kernel",
    "find_variance_layers",
    "layer_paths",
    "set_train_size",
    "stock_class",
    "variance_layers",
]
