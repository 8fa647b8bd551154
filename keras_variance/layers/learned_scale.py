"""`LearnedScale`: one learned log variance for all examples."""

import math

import keras
from keras import ops

from keras_variance import checks


@keras.saving.register_keras_serializable("keras_variance")
class LearnedScale(keras.layers.Layer):
    """Appends a learned log variance of each mean: outputs of `likelihoods.Gaussian`.

        (m₁, …, m_d) → (m₁, …, m_d, s₁, …, s_d),  y ~ N(m, e^s)

    The last layer of a regression whose noise is the same for all examples, and not
    known. (Of `likelihoods.StudentT` they are log squared scales.)

    Args:
        initial_scale: Number > 0, the standard deviation e^(s/2) to begin with, in the
            units of the targets.
        **kwargs: Those of `keras.layers.Layer`.

    Input: (batch, …, d). Output: (batch, …, 2d).

    Raises:
        ValueError: For another scale.

    Example:

    >>> layer = LearnedScale(initial_scale=1.0)
    >>> [float(x) for x in ops.convert_to_numpy(layer(ops.ones((1, 2))))[0]]
    [1.0, 1.0, 0.0, 0.0]
    """

    def __init__(self, initial_scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.initial_scale = checks.number("initial_scale", initial_scale, above=0)

    def build(self, input_shape):
        self.log_variance = self.add_weight(
            name="log_variance",
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(2 * math.log(self.initial_scale)),
        )

    def call(self, inputs):
        return self.append(inputs, self.log_variance)

    def append(self, inputs, log_variance):
        """Inputs, and the same numbers for each of them, on the last axis."""
        log_variance = ops.cast(log_variance, inputs.dtype)
        each = ops.broadcast_to(log_variance, ops.shape(inputs))
        return ops.concatenate([inputs, each], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2 * input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "initial_scale": self.initial_scale}
