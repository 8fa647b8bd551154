"""`Prior`: a density of weights, and the KL divergence of a Gaussian from it."""

import math

from keras import ops

from keras_variance import families
from keras_variance.distributions import noises
from keras_variance.distributions.posteriors import TINY

METHODS = ("quadrature", "monte_carlo")
# Of a sum in place of an integral over a normal distribution: nodes on each side, and
# how many standard deviations they reach
NODES = 12
REACH = 6.0


class Prior(families.Member):
    """Base of the priors; a new one is a `log_prob`.

        KL(q‖p) = −E_q log p(w) − ½ log(2πe σ²),    q = N(μ, σ²).

    The expectation is `expected_log_prob`, or log p of one draw of w where `method` is
    `"monte_carlo"`, which is unbiased for any density. The default of the former is a
    sum over 25 values of w, μ ± 6σ: right for densities that are smooth on the scale
    of σ. Where there is a closed form, override `expected_log_prob` or `kl`.

    Example:

    >>> import keras
    >>> @keras.saving.register_keras_serializable()
    ... class Laplace(Prior):
    ...     method = "monte_carlo"  # |w| is not smooth
    ...
    ...     def log_prob(self, weights):
    ...         return -ops.abs(weights) - math.log(2)
    >>> from keras_variance import VarianceDense
    >>> layer = VarianceDense(3, posterior="additive", prior=Laplace(), train_size=100)
    """

    family = "prior"
    method = "quadrature"

    def check(self, noise, posterior):
        """Raise ValueError if weights with this noise and posterior have no KL."""
        if not isinstance(noise, noises.Gaussian):
            raise ValueError(
                "A `prior` needs Gaussian noise: its KL divergence is that of a "
                f"Gaussian posterior. Received: prior={self!r}, noise={noise!r}"
            )

    def variables(self, kernel) -> dict[str, dict]:
        """What each random weight with the prior has to keep: arguments of
        `add_weight`, of which `initializer` is needed.

        The layer's variables are called `prior_<name>`, and are passed to `kl` and
        `log_prob` as tensors, by name.

        Args:
            kernel: θ, a `keras.Variable`, for initializers that start from it.
        """
        return {}

    def log_prob(self, weights, **variables):
        """log p(w) of each weight: a tensor."""
        raise NotImplementedError

    def expected_log_prob(self, mean, stddev, **variables):
        """E log p(w) for w ~ N(mean, stddev²), tensors, of each weight."""
        return expectation(lambda w: self.log_prob(w, **variables), mean, stddev)

    def kl(self, posterior, kernel, phi, seed=None, **variables):
        """KL(q‖p) of each weight.

        Args:
            posterior: A `Posterior`.
            kernel: θ, a tensor of at least single precision.
            phi: φ, likewise, or None.
            seed: A `keras.random.SeedGenerator`, for Monte Carlo estimates.
            **variables: Tensors, of what `variables` asks for.

        Returns:
            A tensor in nats that broadcasts to the shape of `kernel`: an entry
            that stands for several weights is the KL of each.
        """
        mean, stddev = moments(posterior, kernel, phi)
        if self.method == "monte_carlo":
            noise = noises.Gaussian().sample(ops.shape(kernel), kernel.dtype, seed)
            expected = self.log_prob(mean + stddev * noise, **variables)
        else:
            expected = self.expected_log_prob(mean, stddev, **variables)
        return -expected - ops.log(stddev) - math.log(2 * math.pi * math.e) / 2


def moments(posterior, kernel, phi):
    """Mean and standard deviation of each weight, the latter positive."""
    mean = posterior.mean(kernel, phi)
    mean = ops.zeros_like(kernel) if mean is None else mean
    variance = ops.square(posterior.scale(kernel, phi))
    return mean, ops.sqrt(ops.maximum(variance, TINY))


def expectation(function, mean, stddev, support=None, nodes=NODES):
    """E f(w) for w ~ N(μ, σ²), by the trapezoid rule,

        E f(w) ≈ Σ_k δ φ(z_k) f(μ + σ z_k),    φ the standard normal density,

    at z_k = kδ from −6 to 6. Where σ > support / 6, f is the narrower of the two: then
    μ + σ z_k are evenly spaced from −support to support.

    Args:
        function: f, from tensors to tensors: smooth on the scale of σ or of
            `support / nodes`, whichever is the smaller.
        mean, stddev: Tensors of one shape.
        support: Float, |w| from which on f is 0, or None.
        nodes: Integer, the number of nodes on each side.
    """
    step = REACH / nodes
    start, center = ops.zeros_like(mean), mean
    if support is not None:
        limit = support / REACH
        is_wide = stddev > limit
        center = ops.where(is_wide, start, mean)
        start = ops.where(is_wide, -mean, start) / stddev
        step = step * limit / ops.maximum(stddev, limit)
    total = 0.0
    for k in range(-nodes, nodes + 1):
        density = ops.exp(-ops.square(start + k * step) / 2)
        total = total + step * density * function(center + k * step * stddev)
    return total / math.sqrt(2 * math.pi)
