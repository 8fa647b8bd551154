"""`ScaleMixture`: a mixture of normal distributions around 0."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras
from keras import ops

from keras_variance import checks
from keras_variance.distributions.priors.base import METHODS, NODES, Prior, expectation

SCALES = (1.0, math.exp(-6))
# log of the density, relative to those before, below which a component is nothing
NEGLIGIBLE = -12.0
# Distance of nodes at an edge of a bump, as a share of π / √(height · rate): the
# error is of order exp(−π / EDGE)
EDGE = 0.3


@keras.saving.register_keras_serializable("keras_variance")
class ScaleMixture(Prior):
    """Σ_k π_k N(0, s_k²): wide for weights that matter, narrow for others.

    With the components in order, s₁ > s₂ > …, and r_k = log (π_k N_k / π₁ N₁), which
    is a constant minus a multiple of w²,

        log p(w) = log π₁ N₁ + Σ_{k>1} b_k,    b_k = softplus(r_k − Σ_{1<j<k} b_j).

    E log N₁ has a closed form. Each b_k is a bump around w = 0, as wide as component
    k, so its expectation is a sum over 25 values of w that depends neither on σ nor on
    the other scales (more, where s_k is below s₁ / 1000). It is within 10⁻⁵ of the
    integral.

    Args:
        scales: Floats ≥ 1e-6, s_k. Defaults to 1 and e⁻⁶.
        weights: Floats > 0 with a sum of 1, π_k. Equal by default.
        method: `"quadrature"`, or `"monte_carlo"` for the unbiased estimate from
            one draw of w, as in the paper, of less memory.

    Reference: Weight Uncertainty in Neural Networks
    (https://arxiv.org/abs/1505.05424), equation 7.
    """

    def __init__(
        self,
        scales: Sequence[float] = SCALES,
        weights: Sequence[float] | None = None,
        method: str = "quadrature",
    ):
        self.scales = _numbers("scales", scales, minimum=1e-6)
        if weights is None:
            self.weights = [1 / len(self.scales)] * len(self.scales)
        else:
            self.weights = _numbers("weights", weights, above=0)
        checks.require(
            len(self.weights) == len(self.scales)
            and math.isclose(math.fsum(self.weights), 1, abs_tol=1e-6),
            "weights",
            "as many numbers as `scales`, with a sum of 1",
            weights,
        )
        self.method = checks.one_of("method", method, METHODS)

    def log_prob(self, weights):
        square = ops.square(weights)
        return sum(_bumps(square, self._components()), self._log_widest(square))

    def expected_log_prob(self, mean, stddev):
        components = self._components()
        total = self._log_widest(ops.square(mean) + ops.square(stddev))
        for k in range(1, len(components) + 1):
            total = total + _expected_bump(components[:k], mean, stddev)
        return total

    def _widest(self):
        """s₁ and π₁."""
        return max(self._merged().items())

    def _merged(self):
        """{s: π}, of components of equal scales together."""
        merged = dict.fromkeys(self.scales, 0.0)
        for scale, weight in zip(self.scales, self.weights, strict=True):
            merged[scale] += weight
        return merged

    def _log_widest(self, square):
        """log π₁ N₁, of w² or of its expectation."""
        scale, weight = self._widest()
        log_norm = math.log(scale) + math.log(2 * math.pi) / 2
        return math.log(weight) - log_norm - square / (2 * scale**2)

    def _components(self):
        """Those but the widest, from wide to narrow."""
        widest, its_weight = self._widest()
        others = [x for x in self._merged().items() if x[0] < widest]
        return [
            _Component(
                math.log(weight / its_weight) + math.log(widest / scale),
                (widest - scale) / scale * (widest + scale) / scale / widest**2 / 2,
            )
            for scale, weight in sorted(others, reverse=True)
        ]

    def get_config(self):
        return {"scales": self.scales, "weights": self.weights, "method": self.method}


class _Component(NamedTuple):
    """log of a component's density relative to another's, height − rate · w²."""

    height: float
    rate: float


def _bumps(square, components):
    """b_k of each component, from w²."""
    bumps, total = [], 0.0
    for height, rate in components:
        bumps.append(ops.softplus(height - rate * square - total))
        total = total + bumps[-1]
    return bumps


def _expected_bump(components, mean, stddev):
    """E b_k of the last one of some components."""
    *others, last = components
    # Relative to each of those before: |w| from which on the last one is nothing
    pairs = [
        _Component(last.height - each.height, last.rate - each.rate)
        for each in (_Component(0.0, 0.0), *others)
    ]
    if any(each.height < NEGLIGIBLE for each in pairs):
        return 0.0
    support, height = min(
        (math.sqrt((each.height - NEGLIGIBLE) / each.rate), each.height)
        for each in pairs
    )
    # A bump is a plateau with edges, log(1 + exp(height − rate w²)) has singularities
    # at a distance π / 2√(height · rate) from the real line: as many as it takes there
    extent = math.sqrt(max(height, 0) * (height - NEGLIGIBLE))
    nodes = max(NODES, math.ceil(extent / (EDGE * math.pi)))
    return expectation(
        lambda w: _bumps(ops.square(w), components)[-1], mean, stddev, support, nodes
    )


def _numbers(name, values, **bounds):
    """A list of numbers, one at least."""
    several = isinstance(values, list | tuple) and len(values) > 0
    checks.require(several, name, "a list of numbers", values)
    return [checks.number(name, each, **bounds) for each in values]
