"""Separable variance layers: two random kernels in a row."""

import functools

import keras
from keras import ops

from keras_variance.layers.base import VarianceLayer
from keras_variance.layers.conv import depthwise
from keras_variance.layers.linear_map import LinearMap, square_linear


class SeparableConvolution(VarianceLayer):
    """Base of the separable convolutions."""

    # Neither kernel maps the inputs to the outputs
    input_axis = None

    @property
    def linear_maps(self):
        pointwise = functools.partial(_pointwise, data_format=self.data_format)
        return (
            self._map("depthwise_kernel", functools.partial(depthwise, self), (-2, -1)),
            self._map("pointwise_kernel", pointwise, (-1,)),
        )

    def _map(self, kernel, linear, unit_axes):
        square = functools.partial(square_linear, linear)
        return LinearMap(kernel, linear, square, unit_axes, self.channel_axes)


def _pointwise(inputs, kernel, data_format):
    return ops.conv(inputs, kernel, padding="valid", data_format=data_format)


@keras.saving.register_keras_serializable("keras_variance")
class VarianceSeparableConv1D(SeparableConvolution, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` with random kernels.

    As `VarianceSeparableConv2D`, of one spatial axis.

    Args: as `keras.layers.SeparableConv1D` and `VarianceLayer`.
    """


@keras.saving.register_keras_serializable("keras_variance")
class VarianceSeparableConv2D(SeparableConvolution, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` with random kernels.

    A depthwise convolution D, then a pointwise one P:

        h = depthwise(x, D),  y = pointwise(h, P) + b

    The `estimator` draws h, given x, and then y, given h. Local reparameterization
    draws both from their exact distributions. Both kernels have the same posterior,
    noise and prior, each its own φ; the KL divergence is the sum over both.

    Args: as `keras.layers.SeparableConv2D` and `VarianceLayer`.

    Example:

    >>> import numpy as np
    >>> layer = VarianceSeparableConv2D(8, 3, posterior="neuron_alpha")
    >>> tuple(layer(np.ones((2, 7, 7, 4))).shape)
    (2, 5, 5, 8)
    >>> [(weight.name, tuple(weight.phi.shape)) for weight in layer.random_weights]
    [('depthwise_kernel', (1, 1, 4, 1)), ('pointwise_kernel', (1, 1, 1, 8))]
    """
