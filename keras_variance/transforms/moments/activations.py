"""Rules of activation functions."""

import functools
import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_variance import _keras, checks
from keras_variance.distributions.posteriors import TINY
from keras_variance.transforms.moments.rules import Moments, moment_rule

activations = keras.activations
layers = keras.layers


def positive_part(mean, variance):
    """P(x > 0), E[x⁺] and E[x⁻] of Gaussian x = x⁺ − x⁻.

    With a = mean / stddev: Φ(a), stddev · (φ(a) + aΦ(a)) and
    stddev · (φ(a) − a(1 − Φ(a))).
    """
    stddev = ops.sqrt(variance + TINY)
    a = mean / stddev
    positive = normal_cdf(a)
    density = ops.exp(-ops.square(a) / 2) / math.sqrt(2 * math.pi)
    above = stddev * (density + a * positive)
    below = stddev * (density - a * (1 - positive))
    return positive, above, below


# From the constant term on
_LOG_TAIL = (
    *(-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806),
    *(0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277),
)


def normal_cdf(a):
    """Φ(a), to 1e-7 of Φ in the lower tail too, where 1 + erf would cancel.

        Φ(−|a|) = ½ t exp(−a²/2 + Σ cₖ tᵏ),  t = 1 / (1 + |a| / √8)

    Of operators that LiteRT has: it has no erf.

    Reference: Press et al., Numerical Recipes (2nd edition, 1992), section 6.2.
    """
    t = 1 / (1 + ops.abs(a) / math.sqrt(8))
    polynomial = functools.reduce(lambda sum, c: sum * t + c, _LOG_TAIL[::-1])
    tail = t * ops.exp(polynomial - ops.square(a) / 2) / 2
    return ops.where(a < 0, tail, 1 - tail)


@moment_rule(
    layers.ReLU,
    layers.LeakyReLU,
    layers.PReLU,
    _keras.Relu,
    activations.relu,
    activations.leaky_relu,
)
def relu(operation, x):
    """Moments of x⁺ − c x⁻ for Gaussian x and slope c, exactly.

        E = E[x⁺] − c E[x⁻]
        Var = Var[x⁺] + c² Var[x⁻] + 2c E[x⁺] E[x⁻]

    with Var[x⁺] = Var[x] Φ − E[x⁺] E[x⁻] and Var[x⁻] = Var[x] (1 − Φ) − E[x⁺] E[x⁻],
    Φ = P(x > 0), from Cov[x, x⁺] = Var[x] Φ (Stein's lemma) and x⁺x⁻ = 0. For a
    layer with a threshold or a greatest value: `quadrature`.

    Reference: Frey & Hinton, Variational learning in nonlinear Gaussian belief
    networks (Neural Computation 11, 1999).
    """
    capped = getattr(operation, "max_value", None) is not None
    if capped or getattr(operation, "threshold", 0) != 0:
        return quadrature(operation, x)
    if isinstance(operation, layers.PReLU):
        slope, source = ops.cast(operation.alpha, x.mean.dtype), None
    else:
        default = 0.2 if operation is activations.leaky_relu else 0.0
        slope = getattr(operation, "negative_slope", default)
        source = (relu, operation, x)
    positive, mean, below = positive_part(x.mean, x.variance)
    variance = x.variance * positive - mean * below
    if ops.is_tensor(slope) or slope != 0:
        negative = x.variance * (1 - positive) - mean * below
        variance += slope**2 * negative + 2 * slope * mean * below
        mean -= slope * below
    return Moments(mean, ops.maximum(variance, 0), source=source)


# The logistic distribution is the mixture of the normal distributions of standard
# deviation 2K, K of Kolmogorov's distribution: the trapezoid rule in log K
_K = np.geomspace(0.3, 2.5, 10)
_J = np.arange(1, 30)[:, None]
_DENSITY = np.sum(8 * (-1.0) ** (_J + 1) * _J**2 * _K * np.exp(-2 * (_J * _K) ** 2), 0)
LOGISTIC_STDDEVS = 2 * _K
LOGISTIC_WEIGHTS = _K * _DENSITY / np.sum(_K * _DENSITY)


def logistic(mean, variance):
    """E[σ(x)] and Var[σ(x)] of Gaussian x, σ(x) = 1 / (1 + e⁻ˣ).

    σ(x) = Σ wⱼ Φ(x / τⱼ) to 4e-8, so that for any mean m and variance v

        E[σ(x)] = Σ wⱼ Φ(m / sⱼ),  E[σ'(x)] = Σ wⱼ φ(m / sⱼ) / sⱼ,  sⱼ² = τⱼ² + v

    and, as σ² = σ − σ', Var[σ(x)] = E[σ] (1 − E[σ]) − E[σ'].

    Reference: Monahan & Stefanski, Normal scale mixture approximations to F*(z)
    and computation of the logistic-normal integral (1992).
    """
    expected, slope = 0.0, 0.0
    for stddev, weight in zip(LOGISTIC_STDDEVS, LOGISTIC_WEIGHTS, strict=True):
        s = ops.sqrt(variance + float(stddev) ** 2)
        a = mean / s
        density = ops.exp(-ops.square(a) / 2) / math.sqrt(2 * math.pi)
        expected += float(weight) * normal_cdf(a)
        slope += float(weight) * density / s
    return expected, ops.maximum(expected * (1 - expected) - slope, 0)


@moment_rule(activations.sigmoid, _keras.Sigmoid)
def sigmoid(operation, x):
    """As `logistic`."""

    def entropy():
        return ops.sum(quadrature(_binary_entropy, x).mean, axis=-1)

    return Moments(
        *logistic(x.mean, x.variance), entropy=entropy, source=(sigmoid, operation, x)
    )


def _binary_entropy(logit):
    """−p log p − (1 − p) log(1 − p), p = σ(logit)."""
    return ops.softplus(logit) - logit * ops.sigmoid(logit)


@moment_rule(activations.tanh, _keras.Tanh)
def tanh(operation, x):
    """As `logistic`: tanh(x) = 2 σ(2x) − 1."""
    mean, variance = logistic(2 * x.mean, 4 * x.variance)
    return Moments(2 * mean - 1, 4 * variance, source=(tanh, operation, x))


@moment_rule(activations.exponential, _keras.Exp)
def exponential(operation, x):
    """Moments of the log-normal distribution, exactly."""
    mean = ops.exp(x.mean + x.variance / 2)
    variance = ops.square(mean) * ops.expm1(x.variance)
    return Moments(mean, variance, source=(exponential, operation, x))


# The trapezoid rule for the integral over a standard normal
_NODES = np.linspace(-5.2, 5.2, 33)
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.sum(np.exp(-(_NODES**2) / 2))


@moment_rule(
    layers.ELU,
    activations.celu,
    activations.elu,
    activations.gelu,
    activations.hard_sigmoid,
    activations.hard_silu,
    activations.hard_tanh,
    activations.log_sigmoid,
    activations.mish,
    activations.relu6,
    activations.selu,
    activations.silu,
    activations.softplus,
    activations.softsign,
    activations.squareplus,
    *_keras.ELEMENTWISE,
)
def quadrature(operation: Callable, x: Moments) -> Moments:
    """Moments of any function of each entry, by the trapezoid rule with 33 nodes.

    The rule of your own functions, too: `moment_rule(function)(quadrature)`.

    Error of mean and standard deviation: for smooth functions (GELU, SiLU, mish,
    softplus) below 1e-3 where the standard deviation of x is below 2. It grows
    with that, in proportion: 4e-3 of it for functions with a kink at 0 or a limit
    at −∞ (ELU, SELU), at most. Bounded functions: 0.01 below 2.
    """
    expected = "a layer or function"
    checks.require(callable(operation), "operation", expected, operation)
    checks.require(isinstance(x, Moments), "x", "`Moments`", x)
    nodes = ops.convert_to_tensor(_NODES, x.mean.dtype)
    weights = ops.convert_to_tensor(_WEIGHTS, x.mean.dtype)
    stddev = ops.sqrt(x.variance + TINY)
    function = operation.call if isinstance(operation, keras.Layer) else operation
    values = function(x.mean[..., None] + stddev[..., None] * nodes)
    mean = ops.sum(weights * values, axis=-1)
    squares = weights * ops.square(values - mean[..., None])
    return Moments(mean, ops.sum(squares, axis=-1))
