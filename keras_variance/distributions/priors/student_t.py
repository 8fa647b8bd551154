"""`StudentT`: Student's t-distribution."""

import math

import keras
import numpy as np
from keras import ops

from keras_variance import checks
from keras_variance.distributions.priors.base import METHODS, Prior

# Degrees of freedom with which a t-distribution is normal in single precision
NORMAL = 1e20
# E w² below which E log(1 + w²) is a sum of moments
SMALL = 1e-2


@keras.saving.register_keras_serializable("keras_variance")
class StudentT(Prior):
    """Student's t-distribution with ν degrees of freedom and scale s.

    log p(w) = −(ν+1)/2 · log(1 + w²/a²) − log B(½, ν/2) − log a,    a = s√ν,

    a proper prior that approaches the log-uniform one, up to a constant, as
    ν → 0. The expectation over w = μ + σz is, with log(a² + w²) =
    2 Re log(a − iw) and the contour of z shifted by ic away from the branch
    point at w = −ia, a trapezoid sum over z_k = kh,

        E = 2 Re Σ_k u_k log(1 + (σc − i(μ + σz_k))/a),
        u_k = h/√(2π) exp(−(z_k + ic)²/2),    c = π/(2h),

    whose error is of order exp(−π²/h²) = 2·10⁻⁷ for the h = 0.8 used, with 15
    nodes, however small ν is. (Gauss-Hermite quadrature, on the real line, meets the
    singularity and converges slowly.) Where E w² < 10⁻² a², as for a large ν, its terms
    cancel, and E is E w²/a² − E w⁴/2a⁴ + E w⁶/3a⁶.

    Args:
        df: Float ≥ 1e-12, ν.
        scale: Float ≥ 1e-6, s.
        method: `"quadrature"`, or `"monte_carlo"` for the unbiased estimate
            from one draw of w, one evaluation in place of 15.

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764).
    """

    def __init__(self, df: float = 1.0, scale: float = 1.0, method: str = "quadrature"):
        self.df = checks.number("df", df, minimum=1e-12)
        self.scale = checks.number("scale", scale, minimum=1e-6)
        self.method = checks.one_of("method", method, METHODS)

    def log_prob(self, weights):
        return self._log_prob(ops.log1p(ops.square(weights / self._a)))

    def expected_log_prob(self, mean, stddev):
        a = self._a
        return self._log_prob(_expected_log1p_square(mean / a, stddev / a))

    def _log_prob(self, log1p_square):
        """log p where log(1 + w²/a²) is this, or its expectation."""
        df = min(self.df, NORMAL)
        log_beta = math.lgamma(0.5) - _log_gamma_ratio(df / 2)
        return -(df + 1) / 2 * log1p_square - log_beta - math.log(self._a)

    @property
    def _a(self):
        return self.scale * math.sqrt(min(self.df, NORMAL))

    def get_config(self):
        return {"df": self.df, "scale": self.scale, "method": self.method}


def _log_gamma_ratio(x):
    """log Γ(x + ½)/Γ(x), which as a difference loses all digits for a large x."""
    if x < 1e4:
        return math.lgamma(x + 0.5) - math.lgamma(x)
    return math.log(x) / 2 - 1 / (8 * x)


def _expected_log1p_square(mean, stddev):
    """E log(1 + w²) for w ~ N(mean, stddev²), as in `StudentT`."""
    m, s = ops.square(mean), ops.square(stddev)
    is_small = m + s < SMALL
    # Zeros in the place of the others, whose powers and gradients may be infinite
    m, s = (ops.where(is_small, x, ops.zeros_like(x)) for x in (m, s))
    fourth = m * (m + 6 * s) + 3 * s**2
    sixth = m * (m**2 + 15 * m * s + 45 * s**2) + 15 * s**3
    return ops.where(
        is_small, m + s - fourth / 2 + sixth / 3, _quadrature(mean, stddev)
    )


def _quadrature(mean, stddev):
    """As `_expected_log1p_square`, by the trapezoid sum."""
    step = 0.8
    shift = math.pi / (2 * step)
    nodes = step * np.arange(-7, 8)
    weights = np.exp(-((nodes + 1j * shift) ** 2) / 2) * step / math.sqrt(2 * math.pi)
    # 1 − iw at w = mean + stddev (z + i·shift), as (1 + real) − i·imaginary
    real = shift * stddev
    total = 0.0
    for node, weight in zip(nodes, weights, strict=True):
        imaginary = mean + float(node) * stddev
        log_square = ops.log1p(real * (2 + real) + ops.square(imaginary))
        angle = ops.arctan2(imaginary, 1 + real)
        total += float(weight.real) * log_square + float(2 * weight.imag) * angle
    return total
