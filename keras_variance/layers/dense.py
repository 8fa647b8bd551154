"""Dense variance layer."""

import keras
from keras import ops

from keras_variance.layers.base import VarianceLayer


@keras.saving.register_keras_serializable("keras_variance")
class VarianceDense(VarianceLayer, keras.layers.Dense):
    """`keras.layers.Dense` with a random kernel.

    Args: as `keras.layers.Dense` and `VarianceLayer`.

    Example:

    >>> import numpy as np
    >>> layer = VarianceDense(500, use_bias=False)
    >>> x = np.ones((2, 800))
    >>> tuple(layer(x).shape)
    (2, 500)
    >>> bool(ops.all(layer(x) == layer(x)))  # another sample each call
    False
    """

    def linear(self, inputs, kernel):
        return ops.matmul(inputs, kernel)
