"""Embedding variance layer."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_variance import checks
from keras_variance.layers.base import VarianceLayer


@keras.saving.register_keras_serializable("keras_variance")
class VarianceEmbedding(VarianceLayer, keras.layers.Embedding):
    """`keras.layers.Embedding` with random vectors.

    An output has the mean and the variance of the weight that is looked up. Two
    positions with the same token have the same vector under weight sampling and, in one
    example, under flipout; local reparameterization and moment matching draw one for
    each position.

    Args: as `keras.layers.Embedding` and `VarianceLayer`.

    Example:

    >>> import numpy as np
    >>> layer = VarianceEmbedding(1000, 16, mask_zero=True)
    >>> tuple(layer(np.array([[4, 20, 0]])).shape)
    (1, 3, 16)
    """

    unit_axes = (-1,)
    input_axis = None
    kernel_name = "embeddings"
    channel_axes = (), (-1,)

    def __init__(self, *args, weights: ArrayLike | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        if weights is not None:
            shape = (self.input_dim, self.output_dim)
            table: Any = (
                weights[0] if isinstance(weights, list) and weights else weights
            )
            fits = np.shape(table) == shape
            checks.require(fits, "weights", f"numbers of shape {shape}", weights)
            self.build()
            self.kernel.assign(table)

    @property
    def kernel(self):
        return self.embeddings

    def build(self, input_shape=None):
        super().build(input_shape)

    def check_input_shape(self, input_shape):
        """Inputs of any shape are looked up."""

    def linear(self, inputs, kernel):
        is_integer = keras.backend.is_int_dtype(inputs.dtype)
        return ops.take(kernel, inputs if is_integer else ops.cast(inputs, "int32"), 0)

    def square_linear(self, inputs, scale, variance=None):
        # Of the rows that are read, not of the table
        return ops.square(self.linear(inputs, scale))

    def prepare(self, inputs):
        return inputs
