"""Einsum variance layer."""

import keras
from keras import ops

from keras_variance import checks
from keras_variance.layers.base import VarianceLayer


@keras.saving.register_keras_serializable("keras_variance")
class VarianceEinsumDense(VarianceLayer, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with a random kernel.

    The kernel's axes that the outputs have too index output units, its others the
    inputs. The outputs' axes that the kernel lacks, such as time in `"btc,cd->btd"`,
    are positions, which share weights: local reparameterization and moment matching
    draw each output from its exact distribution, given the input, but independently
    of other positions, as the convolutional layers do. Weight sampling and flipout
    share one kernel among the positions of an example.

    Args: as `keras.layers.EinsumDense` and `VarianceLayer`.

    Raises:
        ValueError: When it is built, if the first axis of the inputs, the batch, is not
            the first of the outputs, or is an axis of the kernel.

    Example: the queries of four attention heads.

    >>> import numpy as np
    >>> layer = VarianceEinsumDense("btc,chd->bthd", (None, 4, 16), bias_axes="hd")
    >>> tuple(layer(np.ones((2, 10, 64))).shape)
    (2, 10, 4, 16)
    >>> layer.unit_axes
    (-2, -1)
    """

    @property
    def unit_axes(self):
        _, kernel, outputs = subscripts(self)
        return _axes(kernel, outputs)

    @property
    def input_axis(self):
        inputs, kernel, outputs = subscripts(self)
        channels = set(inputs[-1]) - set(outputs)
        return next(iter(_axes(kernel, channels)), None)

    @property
    def channel_axes(self):
        inputs, kernel, outputs = subscripts(self)
        return _axes(inputs, kernel), _axes(outputs, kernel)

    def linear(self, inputs, kernel):
        return ops.einsum(self.equation, inputs, kernel)

    def square_linear(self, inputs, scale, variance=None):
        ours, *others = subscripts(self)
        # A weight reads the sum over the axes that the inputs alone have
        alone = _axes(ours, set(ours).difference(*others))

        def total(x):
            return ops.sum(x, alone, keepdims=True) if alone and x is not None else x

        return super().square_linear(total(inputs), scale, total(variance))

    def check_input_shape(self, input_shape):
        inputs, _, outputs = subscripts(self)
        axes, _ = self.channel_axes
        letters = inputs.replace("...", "")
        rank, most = len(letters), "" if letters == inputs else "at least "
        if len(input_shape) < rank or (len(input_shape) > rank and not most):
            raise ValueError(
                f"Layer '{self.name}' needs an input of {most}{rank} axes, by its "
                f"equation. Received: input_shape={input_shape}"
            )
        if any(input_shape[axis] is None for axis in axes):
            raise ValueError(
                f"Layer '{self.name}' needs an input whose axes {axes} are known: the "
                f"kernel has them too. Received: input_shape={input_shape}"
            )
        elided = inputs.startswith("...") and len(input_shape) > rank
        checks.require(
            (elided or outputs.replace("...", "").startswith(letters[0]))
            and 0 not in [axis % len(input_shape) for axis in axes],
            "equation",
            "one whose first axis of inputs and of outputs is the batch",
            self.equation,
        )


def subscripts(layer):
    """Of the inputs, the kernel and the outputs: the parts of a layer's equation."""
    operands, outputs = layer.equation.split("->")
    return *operands.split(","), outputs


def _axes(letters, labels):
    """The axes with these labels; an ellipsis stands for any number of axes."""
    named = letters.replace("...", "")
    start = 0 if letters.endswith("...") else -len(named)
    return tuple(start + k for k, label in enumerate(named) if label in labels)
