"""Stock linear layers, as their variance layers see them."""

import inspect

import keras

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
from keras_variance.layers.separable import (
    VarianceSeparableConv1D,
    VarianceSeparableConv2D,
)

# The variance layer of each stock layer
VARIANCE_LAYERS = {
    keras.layers.Dense: VarianceDense,
    keras.layers.EinsumDense: VarianceEinsumDense,
    keras.layers.Embedding: VarianceEmbedding,
    keras.layers.Conv1D: VarianceConv1D,
    keras.layers.Conv2D: VarianceConv2D,
    keras.layers.Conv3D: VarianceConv3D,
    keras.layers.Conv1DTranspose: VarianceConv1DTranspose,
    keras.layers.Conv2DTranspose: VarianceConv2DTranspose,
    keras.layers.Conv3DTranspose: VarianceConv3DTranspose,
    keras.layers.DepthwiseConv1D: VarianceDepthwiseConv1D,
    keras.layers.DepthwiseConv2D: VarianceDepthwiseConv2D,
    keras.layers.SeparableConv1D: VarianceSeparableConv1D,
    keras.layers.SeparableConv2D: VarianceSeparableConv2D,
}


def stock_class(layer):
    """The class in `VARIANCE_LAYERS` that a layer is of, or None."""
    return next((base for base in type(layer).__mro__ if base in VARIANCE_LAYERS), None)


def declared(layer, name):
    """What a variance layer declares: `linear`, `unit_axes` and so on.

    Of a stock layer: what its variance layer would, if it had the arguments of this.
    """
    if isinstance(layer, VarianceLayer):
        return getattr(layer, name)
    attribute = inspect.getattr_static(VARIANCE_LAYERS[stock_class(layer)], name)
    bind = getattr(attribute, "__get__", None)  # of methods and properties
    return attribute if bind is None else bind(layer)


def effective_kernel(layer):
    """The kernel that a stock layer computes with, LoRA weights included.

    Raises:
        ValueError: If the layer is quantized: no kernel gives its outputs.
    """
    mode = getattr(layer, "quantization_mode", None)
    if mode is not None:
        raise ValueError(
            f"Layer '{layer.name}' is quantized: it has no kernel in floating point. "
            "Use the model from before `quantize`. "
            f"Received: quantization_mode={mode!r}"
        )
    return getattr(layer, declared(layer, "kernel_name"))
