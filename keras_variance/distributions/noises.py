"""Weight noise: zero mean, unit variance, symmetric.

A weight is `mean + scale · noise`, and a `Noise` is the last factor.

Reference: Variance Networks (https://arxiv.org/abs/1803.03764), section 3.3.
"""

import math

import keras
from keras import ops

from keras_variance import checks, families

__all__ = [
    "MEMBERS",
    "Bernoulli",
    "Gaussian",
    "Noise",
    "Uniform",
    "get",
]


class Noise(families.Member):
    """Base of the noises; a new one is a `sample` and a `distribution`."""

    family = "noise"

    def sample(self, shape, dtype, seed):
        """Independent draws.

        Args:
            shape: Shape of the result; entries are integers or scalar tensors.
            dtype: A floating dtype.
            seed: An integer or a `keras.random.SeedGenerator`.

        Returns:
            A tensor with that shape and dtype, mean 0 and variance 1.
        """
        raise NotImplementedError

    def distribution(self, mean, scale):
        """`mean + scale · noise` as a `tensorflow_probability` distribution.

        Raises:
            RuntimeError: If TensorFlow is not the backend.
            ImportError: If `tensorflow_probability` is not installed.
        """
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_variance")
class Gaussian(Noise):
    """Standard normal noise: the default.

    On TensorFlow drawn by the Box-Muller transform: with u, v uniform on (0, 1],
    √(−2 log u) cos 2πv and √(−2 log u) sin 2πv are independent normals. On CPU these
    vectorized operations take less time than TensorFlow's own normals, which are most
    of what a sample costs (benchmarks/layer_step.py); JAX's and PyTorch's are faster.

    Example:

    >>> tuple(Gaussian().sample((2, 3), "float32", seed=0).shape)
    (2, 3)
    """

    def sample(self, shape, dtype, seed):
        if keras.backend.backend() != "tensorflow":
            return keras.random.normal(shape, dtype=dtype, seed=seed)
        size = math.prod(shape)
        uniform = keras.random.uniform((2, (size + 1) // 2), dtype=dtype, seed=seed)
        radius = ops.sqrt(-2 * ops.log(1 - uniform[0]))
        angle = 2 * math.pi * uniform[1]
        pairs = ops.concatenate([radius * ops.cos(angle), radius * ops.sin(angle)])
        return ops.reshape(pairs[:size], shape)

    def distribution(self, mean, scale):
        return _tfd().Normal(mean, ops.abs(scale))


@keras.saving.register_keras_serializable("keras_variance")
class Bernoulli(Noise):
    """-1 or +1, each with probability ½: a weight has one of two values."""

    def sample(self, shape, dtype, seed):
        bits = keras.random.randint(shape, 0, 2, dtype="int32", seed=seed)
        return ops.cast(2 * bits - 1, dtype)

    def distribution(self, mean, scale):
        tfd = _tfd()
        return tfd.MixtureSameFamily(
            tfd.Categorical(probs=[0.5, 0.5]),
            tfd.Deterministic(ops.stack([mean - scale, mean + scale], axis=-1)),
        )


@keras.saving.register_keras_serializable("keras_variance")
class Uniform(Noise):
    """Uniform on (-√3, √3), the interval on which the variance is 1."""

    def sample(self, shape, dtype, seed):
        bound = math.sqrt(3)
        return keras.random.uniform(shape, -bound, bound, dtype=dtype, seed=seed)

    def distribution(self, mean, scale):
        tfd, reach = _tfd(), math.sqrt(3) * ops.abs(scale)
        return tfd.Uniform(mean - reach, mean + reach)


def _tfd():
    """The distributions of TensorFlow Probability."""
    checks.backend(
        "`posterior_distribution`",
        ("tensorflow",),
        "use the layer's `kernel_mean` and `kernel_scale` with the distributions of "
        "another library",
    )
    try:
        from tensorflow_probability import distributions
    except ImportError as error:
        raise ImportError(
            "`posterior_distribution` needs `pip install tensorflow-probability[tf]`"
        ) from error
    return distributions


MEMBERS = {"gaussian": Gaussian, "bernoulli": Bernoulli, "uniform": Uniform}


def get(identifier: str | dict | Noise) -> Noise:
    """A `Noise` from a name, a config or a `Noise`."""
    return families.get(identifier, Noise, MEMBERS)
