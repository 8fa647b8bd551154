"""Convolutional variance layers."""

import keras
from keras import ops

from keras_variance.layers.base import VarianceLayer


@keras.saving.register_keras_serializable("keras_variance")
class VarianceConv1D(VarianceLayer, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with a random kernel.

    Args: as `keras.layers.Conv1D` and `VarianceLayer`.
    """

    def linear(self, inputs, kernel):
        if self.padding != "causal":
            return self.convolution_op(inputs, kernel)
        past = self.dilation_rate[0] * (self.kernel_size[0] - 1)
        pad = [[0, 0], [0, 0], [0, 0]]
        pad[1 if self.data_format == "channels_last" else 2] = [past, 0]
        return ops.conv(
            ops.pad(inputs, pad),
            kernel,
            strides=list(self.strides),
            padding="valid",
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@keras.saving.register_keras_serializable("keras_variance")
class VarianceConv2D(VarianceLayer, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a random kernel.

    Args: as `keras.layers.Conv2D` and `VarianceLayer`.

    Example:

    >>> import numpy as np
    >>> layer = VarianceConv2D(50, 5, posterior="neuron_alpha")
    >>> tuple(layer(np.ones((2, 12, 12, 20))).shape)
    (2, 8, 8, 50)
    >>> tuple(layer.phi.shape)
    (1, 1, 1, 50)
    """

    def linear(self, inputs, kernel):
        return self.convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable("keras_variance")
class VarianceConv3D(VarianceLayer, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with a random kernel.

    Args: as `keras.layers.Conv3D` and `VarianceLayer`.
    """

    def linear(self, inputs, kernel):
        return self.convolution_op(inputs, kernel)


class TransposedConvolution(VarianceLayer):
    """Base of the transposed convolutions."""

    # The kernel is (…, filters, channels)
    unit_axes = (-2,)
    input_axis = -1

    def linear(self, inputs, kernel):
        return ops.conv_transpose(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@keras.saving.register_keras_serializable("keras_variance")
class VarianceConv1DTranspose(TransposedConvolution, keras.layers.Conv1DTranspose):
    """`keras.layers.Conv1DTranspose` with a random kernel.

    Args: as `keras.layers.Conv1DTranspose` and `VarianceLayer`.
    """


@keras.saving.register_keras_serializable("keras_variance")
class VarianceConv2DTranspose(TransposedConvolution, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with a random kernel.

    Args: as `keras.layers.Conv2DTranspose` and `VarianceLayer`.
    """


@keras.saving.register_keras_serializable("keras_variance")
class VarianceConv3DTranspose(TransposedConvolution, keras.layers.Conv3DTranspose):
    """`keras.layers.Conv3DTranspose` with a random kernel.

    Args: as `keras.layers.Conv3DTranspose` and `VarianceLayer`.
    """


class DepthwiseConvolution(VarianceLayer):
    """Base of the depthwise convolutions."""

    # The kernel is (…, channels, multiplier)
    unit_axes = (-2, -1)
    input_axis = None

    def linear(self, inputs, kernel):
        return depthwise(self, inputs, kernel)


def depthwise(layer, inputs, kernel):
    """A depthwise convolution with the arguments of a layer."""
    return ops.depthwise_conv(
        inputs,
        kernel,
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )


@keras.saving.register_keras_serializable("keras_variance")
class VarianceDepthwiseConv1D(DepthwiseConvolution, keras.layers.DepthwiseConv1D):
    """`keras.layers.DepthwiseConv1D` with a random kernel.

    Args: as `keras.layers.DepthwiseConv1D` and `VarianceLayer`.
    """


@keras.saving.register_keras_serializable("keras_variance")
class VarianceDepthwiseConv2D(DepthwiseConvolution, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with a random kernel.

    Args: as `keras.layers.DepthwiseConv2D` and `VarianceLayer`.
    """
