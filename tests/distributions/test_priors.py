import math

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_variance import posteriors, priors
from keras_variance.random import SeedGenerator
from tests import backends
from tests.distributions.integrals import gaussian_integral, kl, tensors
from tests.statistics import assert_moments

LOG_ALPHA = np.linspace(-8, 12, 41)


def log_uniform_exact(log_alpha):
    """E log|w| − log σ + (γ + log 2)/2, which falls to 0 as α → ∞."""
    stddev = math.exp(log_alpha / 2)
    expectation = gaussian_integral(lambda w: math.log(abs(w) or 1e-300), 1.0, stddev)
    return expectation - math.log(stddev) + (np.euler_gamma + math.log(2)) / 2


def test_log_uniform_against_quadrature():
    exact = np.array([log_uniform_exact(each) for each in LOG_ALPHA])
    approximate = kl("log_uniform", np.ones(41), np.exp(LOG_ALPHA / 2))
    # The error that the docstring states
    assert np.abs(approximate - exact).max() < 0.01


@backends.tensorflow_only
def test_ard_against_tfp():
    from tensorflow_probability import distributions as tfd

    stddev = np.exp(LOG_ALPHA / 2)
    best = tfd.Normal(np.float64(0), np.hypot(1.0, stddev))
    expected = tfd.kl_divergence(tfd.Normal(np.ones(41), stddev), best)
    # In single precision log(θ²) − φ is off by 10⁻⁷ of φ
    np.testing.assert_allclose(kl("ard", np.ones(41), stddev), expected, rtol=3e-6)


@pytest.mark.parametrize("df", [1e-8, 0.01, 1.0, 5.0, 100.0])
@pytest.mark.parametrize("scale", [0.1, 1.0])
@pytest.mark.parametrize("mean", [0.0, 1e-3, 0.05, 3.0])
def test_student_t_against_quadrature(df, scale, mean):
    log_variance = LOG_ALPHA[::4] + math.log((mean or 0.05) ** 2)
    stddev = np.exp(log_variance / 2)

    def divergence(each):
        # scipy's logpdf overflows for tiny df: the formula, at double precision
        a = scale * math.sqrt(df)
        log_normalizer = (
            math.lgamma((df + 1) / 2)
            - math.lgamma(df / 2)
            - math.log(math.pi) / 2
            - math.log(a)
        )
        cross = gaussian_integral(lambda w: math.log1p((w / a) ** 2), mean, each)
        entropy = 0.5 * math.log(2 * math.pi * math.e) + math.log(each)
        return (df + 1) / 2 * cross - log_normalizer - entropy

    expected = [divergence(each) for each in stddev]
    actual = kl(priors.StudentT(df, scale), np.full(len(stddev), mean), stddev)
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


@backends.tensorflow_only
def test_student_t_against_tfp():
    from tensorflow_probability import distributions as tfd

    p = tfd.StudentT(np.float64(3.0), np.float64(0.0), np.float64(0.5))
    q = tfd.Normal(np.float64(0.3), np.float64(0.7))
    expected = gaussian_integral(
        lambda w: float(q.log_prob(w) - p.log_prob(w)), 0.3, 0.7
    )
    np.testing.assert_allclose(kl(priors.StudentT(3, 0.5), 0.3, 0.7), expected, 1e-5)


def test_student_t_monte_carlo_is_unbiased(seed):
    theta, phi = tensors(
        np.full((20_000, 2), [0.3, 0.0]), np.full((20_000, 2), [-1.0, 1.0])
    )
    draws = priors.StudentT(2.0, method="monte_carlo").kl(
        posteriors.Additive(), theta, phi, SeedGenerator(seed)
    )
    exact = priors.StudentT(2.0).kl(posteriors.Additive(), theta[0], phi[0], None)
    draws = np.asarray(draws)
    variance = np.var(draws, axis=0)
    fourth = np.mean((draws - np.mean(draws, axis=0)) ** 4, axis=0)
    assert_moments(draws, exact, variance, fourth / variance**2)


@pytest.mark.parametrize("df", [30.0, 99.0, 1e3, 1e5, 1e7, 1e9, 1e20, 1e38])
@pytest.mark.parametrize("method", ["quadrature", "monte_carlo"])
def test_student_t_with_many_degrees_of_freedom(df, method, seed):
    """Against SciPy, or the normal distribution that it is in the limit."""
    prior = priors.StudentT(df, scale=0.5, method=method)
    mean, stddev = np.array([0.0, 0.3, 2.0, 0.0]), np.array([0.5, 0.1, 1.0, 1e-3])
    p = stats.t(df, scale=0.5) if df < 1e9 else stats.norm(scale=0.5)
    q = stats.norm(mean, stddev)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    cross = p.logpdf(mean + stddev * nodes[:, None]).T @ weights / weights.sum()
    expected = -q.entropy() - cross
    rows = 1 if method == "quadrature" else 20_000
    theta, phi = tensors(*(np.tile(x, (rows, 1)) for x in (mean, 2 * np.log(stddev))))
    draws = prior.kl(posteriors.Additive(), theta, phi, SeedGenerator(seed))
    draws = np.asarray(draws, "float64")
    if method == "quadrature":
        np.testing.assert_allclose(draws[0], expected, rtol=2e-5, atol=2e-5)
    else:
        error = np.std(draws, axis=0) / math.sqrt(rows) + 1e-5
        assert np.all(np.abs(np.mean(draws, axis=0) - expected) < 6 * error)


def test_gradient_of_student_t_is_finite():
    """Where one of its two forms would overflow."""
    prior = priors.StudentT(1e3)
    theta = keras.Variable([0.0, 1e-20, 1.0, 1e10])
    phi = keras.Variable([-60.0, 0, 1, 9])

    def loss():
        return ops.sum(prior.kl(posteriors.Additive(), theta.value, phi.value, None))

    for gradient in backends.gradients(loss, [theta, phi])[1]:
        assert np.isfinite(gradient).all()


def test_student_t_approaches_log_uniform():
    stddev = np.exp(LOG_ALPHA / 2)
    difference = kl(priors.StudentT(1e-12), np.ones(41), stddev) - kl(
        "log_uniform", np.ones(41), stddev
    )
    assert np.ptp(difference) < 2 * 0.01


@pytest.mark.parametrize("prior", ["log_uniform", "ard"])
def test_falls_to_zero(prior):
    values = kl(prior, np.ones(41), np.exp(LOG_ALPHA / 2))
    assert np.all(np.diff(values) < 0)
    assert np.all(values > 0)
    assert values[-1] < 1e-5


@pytest.mark.parametrize("prior", ["log_uniform", "ard"])
def test_zero_mean_has_no_divergence(prior):
    (theta,) = tensors([[0.0, 1.0]])
    assert priors.get(prior).kl(posteriors.ZeroMean(), theta, None, None) == 0.0


@pytest.mark.parametrize("posterior", ["layer_alpha", "neuron_alpha", "weight_alpha"])
@pytest.mark.parametrize("prior", ["log_uniform", "ard"])
def test_alpha_posteriors_agree_with_additive(prior, posterior):
    theta, log_alpha = np.float32([[0.5, -2.0]]), np.float32(0.7)
    additive = kl(prior, theta, np.exp(log_alpha / 2) * np.abs(theta))
    alpha = priors.get(prior).kl(
        posteriors.get(posterior), *tensors(theta, log_alpha), None
    )
    np.testing.assert_allclose(alpha, additive, rtol=1e-5)


@pytest.mark.parametrize("posterior", posteriors.MEMBERS)
@pytest.mark.parametrize(
    "prior", ["log_uniform", "ard", "student_t", priors.StudentT(method="monte_carlo")]
)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_finite_gradients(prior, posterior, jit_compile):
    """At a weight of exactly zero, a tiny, a usual and a large one."""
    posterior = posteriors.get(posterior)
    theta = keras.Variable([[0.0, 1e-20, 0.05, -30.0]])
    phi = keras.Variable([[-20.0, -5.0, 0.0, 20.0]])

    def divergence():
        kl = priors.get(prior).kl(posterior, theta.value, phi.value, seed=3)
        # Of a tensor that depends on both, zero-mean weights have a constant
        return ops.sum(kl) + 0 * ops.sum(theta.value)

    value, gradients = backends.gradients(divergence, [theta, phi], jit_compile)
    for array in (value, *gradients):
        assert np.all(np.isfinite(array))


def test_gradient_of_log_alpha_is_negative():
    """The KL divergence pushes α up, to the zero-mean posterior."""
    for prior in ("log_uniform", "ard"):
        log_alpha, kl = keras.Variable(np.float32(LOG_ALPHA)), priors.get(prior).kl

        def divergence(kl=kl, phi=log_alpha):
            return ops.sum(kl(posteriors.WeightAlpha(), ops.ones(41), phi.value, None))

        _, (slope,) = backends.gradients(divergence, [log_alpha])
        assert np.all(slope < 0)


@pytest.mark.parametrize("name", ["df", "scale"])
@pytest.mark.parametrize("value", [0, -1.0, np.inf, np.nan, "1", None])
def test_student_t_bad_number(name, value):
    with pytest.raises(ValueError, match=rf"`{name}`.* ≥ 1e-.*Received: {name}="):
        priors.StudentT(**{name: value})


def test_student_t_bad_method():
    with pytest.raises(ValueError, match=r"Received: method='exact'"):
        priors.StudentT(method="exact")
