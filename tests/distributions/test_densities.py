"""Priors with a density: the KL divergence is that of their `log_prob`."""

import itertools
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy import integrate, special, stats

import keras_variance as kv
from keras_variance import posteriors, priors
from keras_variance.distributions.priors.base import expectation
from keras_variance.random import SeedGenerator
from tests import backends
from tests.distributions.integrals import kl, tensors
from tests.statistics import threshold

STDDEV = 10.0 ** np.arange(-7, 4)
NEAR = np.outer(10.0 ** np.arange(-7, 4), [-5, -2, -1, 1, 2, 5]).ravel()


def expected_log_prob(prior, mean, stddev):
    """E log p(w), piece by piece: some are as narrow as any component."""
    log_prob, density = log_density(prior), stats.norm(mean, stddev).pdf
    ends = mean + stddev * np.arange(-12, 13, 2)
    inside = NEAR[np.abs(NEAR - mean) < 12 * stddev]
    return sum(
        integrate.fixed_quad(lambda w: log_prob(w) * density(w), *piece, n=25)[0]
        for piece in itertools.pairwise(np.sort([*ends, *inside]))
    )


def log_density(prior):
    """By SciPy, at double precision."""
    if isinstance(prior, priors.Normal):
        return stats.norm(prior.mean, prior.scale).logpdf
    if isinstance(prior, priors.StudentT):
        return stats.t(prior.df, scale=prior.scale).logpdf

    def log_prob(w):
        logs = stats.norm(0, prior.scales).logpdf(np.expand_dims(w, -1))
        return special.logsumexp(logs, axis=-1, b=prior.weights)

    return log_prob


DENSITIES = {
    "normal": priors.Normal(0.3, mean=-0.1),
    "student_t": priors.StudentT(3.0, 0.5),
    "scale_mixture": priors.ScaleMixture(),
    "narrow": priors.ScaleMixture([1e-6, 10.0], [1 - 1e-4, 1e-4]),
    "alike": priors.ScaleMixture([1, 0.999, 0.5], [0.2, 0.3, 0.5]),
    "five": priors.ScaleMixture([0.05, 1, 0.9, 1e-3, 0.8]),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_log_prob(name):
    w = np.concatenate([-(10.0 ** np.arange(-7, 3)), [0], 10.0 ** np.arange(-7, 3)])
    actual = DENSITIES[name].log_prob(*tensors(w))
    np.testing.assert_allclose(actual, log_density(DENSITIES[name])(w), 1e-5, 1e-5)


@pytest.mark.parametrize("mean", [0.0, 1e-3, 0.05, 5.0])
@pytest.mark.parametrize("name", [x for x in DENSITIES if x != "student_t"])
def test_against_integration(name, mean):
    """From posteriors far narrower than any component to far wider ones."""
    prior = DENSITIES[name]
    expected = [
        -expected_log_prob(prior, mean, stddev) - stats.norm(mean, stddev).entropy()
        for stddev in STDDEV
    ]
    actual = kl(prior, np.full(STDDEV.shape, mean), STDDEV)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["normal", "scale_mixture"])
def test_zero_mean(name):
    """θ of a variance layer is a standard deviation, of any sign."""
    theta = np.float32([-0.2, 1e-3, 0.5])
    prior = DENSITIES[name]
    actual = prior.kl(posteriors.ZeroMean(), *tensors(theta), None)
    np.testing.assert_allclose(actual, kl(prior, np.zeros(3), np.abs(theta)), 1e-5)


@pytest.mark.parametrize("mean, stddev", [(0.2, 1.0), (-3, 2.0), (0.01, 1e-3)])
def test_expectation_of_what_is_narrow(mean, stddev):
    """E exp(−(w − 0.1)²/2s²), the integral of a product of two normal densities."""
    width = 0.05

    def bump(w):
        return ops.exp(-ops.square((w - 0.1) / width) / 2)

    actual = expectation(bump, *tensors([mean], [stddev]), support=0.5)
    total = math.hypot(width, stddev)
    expected = width / total * math.exp(-(((mean - 0.1) / total) ** 2) / 2)
    np.testing.assert_allclose(actual, [expected], rtol=1e-4)


class Unknown(priors.Prior):
    """A density of which nothing but its log is known."""

    def __init__(self, density, method="quadrature"):
        self.density, self.method = density, method

    def log_prob(self, weights):
        return self.density.log_prob(weights)


@pytest.mark.parametrize("mean, stddev", [(0.0, 0.1), (0.3, 0.5), (-2.0, 0.01)])
def test_log_prob_is_enough(mean, stddev, seed):
    """The sum, where the density is smooth, and the average over draws."""
    density = DENSITIES["normal"]
    expected = kl(density, mean, stddev)
    np.testing.assert_allclose(kl(Unknown(density), mean, stddev), expected, 1e-4)
    for name in ("normal", "scale_mixture"):
        density = DENSITIES[name]
        theta, phi = tensors(np.full(20_000, mean), np.full(20_000, 2 * np.log(stddev)))
        prior = Unknown(density, "monte_carlo")
        draws = prior.kl(posteriors.Additive(), theta, phi, SeedGenerator(seed))
        draws = np.asarray(draws)
        error = np.std(draws) / math.sqrt(20_000)
        difference = np.mean(draws, dtype="float64") - kl(density, mean, stddev)
        assert abs(difference) / error < threshold(6)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4),
    st.floats(-100, 100),
    st.floats(1e-3, 1e3),
    st.floats(0.1, 10),
)
def test_properties_of_a_scale_mixture(scales, mean, stddev, factor):
    """No less than 0; no more than of any component; units and order do not matter."""
    value = kl(priors.ScaleMixture(scales), mean, stddev)
    tolerance = 1e-5 + 1e-5 * abs(value)
    assert value > -tolerance
    weight = math.log(len(scales))
    for scale in scales:
        normal = kl(priors.Normal(scale), mean, stddev)
        assert value <= normal + weight + tolerance + 1e-5 * normal
    again = kl(priors.ScaleMixture(scales[::-1]), mean, stddev)
    assert abs(value - again) <= tolerance
    scaled = priors.ScaleMixture([factor * scale for scale in scales])
    assert abs(value - kl(scaled, factor * mean, factor * stddev)) <= 3 * tolerance


@settings(max_examples=15, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(-100, 100), st.floats(1e-3, 1e3))
def test_equal_components_are_a_normal(scale, mean, stddev):
    mixture = priors.ScaleMixture([scale, scale], [0.3, 0.7])
    expected = kl(priors.Normal(scale), mean, stddev)
    np.testing.assert_allclose(kl(mixture, mean, stddev), expected, 1e-5, 2e-6)


@pytest.mark.parametrize(
    "name, jit_compile",
    [(name, False) for name in DENSITIES] + [("scale_mixture", True)],
)
def test_gradients(name, jit_compile):
    """Are those of finite differences, at a width where components meet."""
    theta, phi = keras.Variable([0.3, 0.0, 0.02]), keras.Variable([-3.0, -4.0, -8.0])
    prior = DENSITIES[name]

    def divergence():
        return ops.sum(prior.kl(posteriors.Additive(), theta.value, phi.value, None))

    _, gradients = backends.gradients(divergence, [theta, phi], jit_compile)
    at = [np.float64(theta), np.float64(phi)]

    def exact(mean, log_variance):
        stddev = math.exp(log_variance / 2)
        return -expected_log_prob(prior, mean, stddev) - math.log(stddev)

    for axis, gradient in enumerate(gradients):
        for k in range(3):
            point = [each[k] for each in at]
            size = 1e-4 * (math.exp(point[1] / 2) if axis == 0 else 1)
            above, below = list(point), list(point)
            above[axis] += size
            below[axis] -= size
            slope = (exact(*above) - exact(*below)) / (2 * size)
            np.testing.assert_allclose(gradient[k], slope, rtol=2e-3, atol=2e-3)


def test_arguments():
    with pytest.raises(ValueError, match=r"`weights` must be as many.*: weights=\[1\]"):
        priors.ScaleMixture([1, 2], [1])
    config = keras.saving.serialize_keras_object(priors.ScaleMixture((1, 0.1)))
    copy = keras.saving.deserialize_keras_object(config)
    assert repr(copy) == (
        "ScaleMixture(scales=[1, 0.1], weights=[0.5, 0.5], method='quadrature')"
    )
    assert repr(kv.priors.get("normal")) == (
        "Normal(scale=1.0, mean=0.0, learnable=False)"
    )
