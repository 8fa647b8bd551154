"""Posteriors: how the mean and the variance of a weight are parameterized.

A layer's kernel is θ. A posterior adds at most one tensor φ and turns the two
into moments of the weights:

| posterior    | mean | variance | φ                        |
|--------------|------|----------|--------------------------|
| zero_mean    | 0    | θ²       |                          |
| layer_alpha  | θ    | e^φ θ²   | log α, one               |
| neuron_alpha | θ    | e^φ θ²   | log α, one a unit        |
| weight_alpha | θ    | e^φ θ²   | log α, one a weight      |
| additive     | θ    | e^φ      | log σ², one a weight     |

References: Variance Networks (https://arxiv.org/abs/1803.03764), Table 1;
Variational Dropout and the Local Reparameterization Trick
(https://arxiv.org/abs/1506.02557), section 3; Variational Dropout Sparsifies
Deep Neural Networks (https://arxiv.org/abs/1701.05369), section 4.1 (additive).
"""

import math

import keras
from keras import ops

from keras_variance import checks, families

__all__ = [
    "MEMBERS",
    "Additive",
    "LayerAlpha",
    "NeuronAlpha",
    "Posterior",
    "WeightAlpha",
    "ZeroMean",
    "get",
]

# Floor of a squared float32 before its logarithm or square root is taken: far
# below any weight that matters, far above underflow. At the floor the gradient
# is 0 rather than infinite.
TINY = 1e-30
# The default of all posteriors with means; the reason is in `Alpha`.
INITIAL_LOG_ALPHA = -5.0


class Posterior(families.Member):
    """Base of the posteriors: `mean`, `scale` and `log_alpha` of θ and φ.

    Each takes θ and φ as tensors of at least single precision, and returns a
    tensor of θ's shape or one that broadcasts to it.
    """

    family = "posterior"
    phi_name: str | None = None  # the name of the variable φ
    # Of a weight whose variance is 0; None where θ = 0 is enough
    pruned_phi: float | None = None

    def phi_shape(self, kernel_shape, unit_axes):
        """Shape of φ, which broadcasts to `kernel_shape`; None for no φ.

        Args:
            kernel_shape: Tuple of integers, the shape of θ.
            unit_axes: Axes of the kernel, counted from the end, that index
                the output units.
        """
        return None

    def initial_phi(self, kernel):
        """What φ starts from where the kernel is θ: a number, or a scalar tensor."""
        raise NotImplementedError

    def mean(self, kernel, phi):
        """Mean of each weight; None stands for 0 everywhere."""
        return kernel

    def scale(self, kernel, phi):
        """Standard deviation of each weight, up to sign.

        Noise is symmetric, so the sign is irrelevant; keeping it spares the
        square root, whose gradient at 0 is infinite.
        """
        raise NotImplementedError

    def log_alpha(self, kernel, phi):
        """log α = log(variance / mean²) of each weight."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_variance")
class ZeroMean(Posterior):
    """Variance layer: w = θ · noise. All information is in the variance.

    θ is signed and unconstrained, so it initializes like a kernel and can
    reach exactly zero.
    """

    def mean(self, kernel, phi):
        return None

    def scale(self, kernel, phi):
        return kernel

    def log_alpha(self, kernel, phi):
        return ops.full((), math.inf, dtype=kernel.dtype)


class Alpha(Posterior):
    """Variational dropout: w = θ (1 + √α · noise), φ = log α. Base of three.

    By default α starts at e⁻⁵: noise of 8 % of a weight, so little that a new layer
    learns as a deterministic one would, and that one of a trained model predicts as
    before; and it is not so far from α = 1 that training takes long to get there, as
    Adam moves log α by at most its learning rate in a step. What a layer becomes does
    not depend on it (docs/results/mnist_starts.md); where α is to grow large in few
    steps, start at 0.

    Args:
        initial_log_alpha: Float < 88, the value φ starts from.
    """

    phi_name = "log_alpha"

    def __init__(self, initial_log_alpha: float = INITIAL_LOG_ALPHA):
        self.initial_log_alpha = _log("initial_log_alpha", initial_log_alpha)

    def initial_phi(self, kernel):
        return self.initial_log_alpha

    def scale(self, kernel, phi):
        return ops.exp(phi / 2) * kernel

    def log_alpha(self, kernel, phi):
        return phi

    def get_config(self):
        return {"initial_log_alpha": self.initial_log_alpha}


@keras.saving.register_keras_serializable("keras_variance")
class LayerAlpha(Alpha):
    """As `Alpha`, with one α for the layer."""

    def phi_shape(self, kernel_shape, unit_axes):
        return (1,) * len(kernel_shape)


@keras.saving.register_keras_serializable("keras_variance")
class NeuronAlpha(Alpha):
    """As `Alpha`, with one α for each output unit."""

    def phi_shape(self, kernel_shape, unit_axes):
        shape = [1] * len(kernel_shape)
        for axis in unit_axes:
            shape[axis] = kernel_shape[axis]
        return tuple(shape)


@keras.saving.register_keras_serializable("keras_variance")
class WeightAlpha(Alpha):
    """As `Alpha`, with one α for each weight."""

    def phi_shape(self, kernel_shape, unit_axes):
        return kernel_shape


@keras.saving.register_keras_serializable("keras_variance")
class Additive(Posterior):
    """w = θ + σ · noise, φ = log σ², one σ for each weight.

    Args:
        initial_log_variance: Float < 88, the value φ starts from. Defaults to what
            makes α = σ² / mean θ² start as it does in `Alpha` (where θ is 0, to -10).
    """

    phi_name = "log_variance"
    pruned_phi = -1e4  # e^(φ/2) is 0

    def __init__(self, initial_log_variance: float | None = None):
        if initial_log_variance is not None:
            initial_log_variance = _log("initial_log_variance", initial_log_variance)
        self.initial_log_variance = initial_log_variance

    def initial_phi(self, kernel):
        if self.initial_log_variance is not None:
            return self.initial_log_variance
        square = ops.mean(ops.square(ops.cast(kernel, "float32")))
        square = ops.where(square > TINY, square, math.exp(INITIAL_LOG_ALPHA))
        return ops.log(square) + INITIAL_LOG_ALPHA

    def phi_shape(self, kernel_shape, unit_axes):
        return kernel_shape

    def scale(self, kernel, phi):
        return ops.exp(phi / 2)

    def log_alpha(self, kernel, phi):
        return phi - ops.log(ops.maximum(ops.square(kernel), TINY))

    def get_config(self):
        return {"initial_log_variance": self.initial_log_variance}


def _log(name, value):
    return checks.number(name, value, below=88)  # e^88 is finite in single precision


MEMBERS = {
    "zero_mean": ZeroMean,
    "layer_alpha": LayerAlpha,
    "neuron_alpha": NeuronAlpha,
    "weight_alpha": WeightAlpha,
    "additive": Additive,
}


def get(identifier: str | dict | Posterior) -> Posterior:
    """A `Posterior` from a name, a config or a `Posterior`."""
    return families.get(identifier, Posterior, MEMBERS)
