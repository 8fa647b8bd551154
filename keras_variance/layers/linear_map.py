"""`LinearMap`: what a layer does with one of its random kernels."""

from collections.abc import Callable
from typing import NamedTuple

from keras import ops


class LinearMap(NamedTuple):
    """A linear map y = linear(x, w) of a layer, w one of its random kernels."""

    kernel: str  # the attribute of the stock layer
    linear: Callable  # (inputs, kernel)
    square_linear: Callable  # (inputs, scale of the weights, variance of the inputs)
    unit_axes: tuple  # of the kernel, that index output units, counted from the end
    channel_axes: tuple  # of the inputs, of the outputs, that the kernel has too


def square_linear(linear, inputs, scale, variance=None):
    """Var[linear(x, w)] = linear(E[x]² + Var[x], Var[w]), of weights of mean zero.

    In the precision of the weights, single at least: the square of an input may
    overflow in half precision.

    Args:
        linear: Function of (inputs, kernel).
        inputs: E[x], a tensor.
        scale: √Var[w] up to sign, a kernel.
        variance: Var[x], a tensor; None for known inputs.
    """
    second = ops.square(ops.cast(inputs, scale.dtype))
    second = second if variance is None else second + variance
    return linear(second, ops.square(scale))


def without_rows(linear):
    """`linear` of no examples too."""

    def apply(inputs, *arguments):
        if inputs.shape[0] != 0:
            return linear(inputs, *arguments)
        # TensorFlow's convolutions return the inputs' shape
        row = ops.zeros((1, *ops.shape(inputs)[1:]), inputs.dtype)
        return linear(row, *arguments)[:0]

    return apply
