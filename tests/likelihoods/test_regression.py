"""Likelihoods of numbers against SciPy and brute force."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import keras_variance as kv
from keras_variance.likelihoods import Gaussian, StudentT, get
from keras_variance.transforms.moments import Moments

# Each with SciPy's distribution of y, of a location and a scale
KINDS = {
    "gaussian": (Gaussian, {}, stats.norm),
    "student_t": (StudentT, {"df": 5.0}, lambda m, s: stats.t(5.0, m, s)),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def distribution(kind, location, log_square):
    return KINDS[kind][2](location, np.exp(log_square / 2))


def new(kind, **arguments):
    cls, options, _ = KINDS[kind]
    return cls(**options, **arguments)


@pytest.mark.parametrize("shape", [(5,), (5, 2)])
@each_kind
def test_log_density_of_outputs(kind, shape, rng):
    """Locations, then log squared scales; with more axes, too."""
    location, log_square = rng.normal(size=(2, *shape, 3))
    y = rng.normal(size=(*shape, 3))
    p = np.concatenate([location, log_square], axis=-1)
    expected = distribution(kind, location, log_square).logpdf(y).sum(axis=-1)
    actual = new(kind).log_likelihood(y, p)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)
    np.testing.assert_array_equal(new(kind).location(p), location)


@each_kind
def test_log_density_with_a_fixed_scale(kind, rng):
    location, y = rng.normal(size=(2, 5, 3))
    expected = distribution(kind, location, 2 * np.log(0.3)).logpdf(y).sum(axis=-1)
    actual = new(kind, scale=0.3).log_likelihood(y, location)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)
    # One number for each example, without an axis of its own
    expected = distribution(kind, location[:, 0], 2 * np.log(0.3)).logpdf(y[:, 0])
    likelihood = new(kind, scale=0.3)
    for shape in ((5,), (5, 1)):
        actual = likelihood.log_likelihood(y[:, 0], location[:, 0].reshape(shape))
        np.testing.assert_allclose(actual, expected, rtol=1e-10)


@pytest.mark.parametrize("fixed", [False, True])
@each_kind
def test_total_variance_is_that_of_draws(kind, fixed, rng):
    """The law of total variance, against numbers that are drawn."""
    likelihood = new(kind, scale=0.7) if fixed else new(kind)
    location, log_square = rng.normal(size=(2, 4, 1, 2))
    log_square = np.full_like(location, 2 * np.log(0.7)) if fixed else log_square
    p = location if fixed else np.concatenate([location, log_square], axis=-1)
    x = Moments(ops.convert_to_tensor(p))
    statistics = likelihood.statistics(x)
    assert statistics["variance"] is None
    np.testing.assert_allclose(statistics["mean"], location, rtol=1e-6)
    draws = distribution(kind, location, log_square).rvs(
        size=(400_000, *location.shape), random_state=rng
    )
    total = draws.var(axis=(0, 1))
    expected = np.asarray(statistics["aleatoric"]).mean(axis=0) + location.var(axis=0)
    np.testing.assert_allclose(total, expected, rtol=0.02)


@pytest.mark.parametrize("fixed", [False, True])
@each_kind
def test_moments_through_the_likelihood(kind, fixed, rng):
    """Of Gaussian outputs, against many draws of them: E[e^s] is log-normal."""
    likelihood = new(kind, scale=0.7) if fixed else new(kind)
    size = 1 if fixed else 2
    mean, variance = rng.normal(size=(3, size)), rng.uniform(0.1, 0.5, size=(3, size))
    x = Moments(ops.convert_to_tensor(mean), ops.convert_to_tensor(variance))
    statistics = likelihood.statistics(x)
    draws = mean + np.sqrt(variance) * rng.normal(size=(400_000, 3, size))
    each = likelihood.statistics(Moments(ops.convert_to_tensor(draws)))
    for name in ("mean", "aleatoric"):
        expected = np.asarray(each[name], "float64").mean(axis=0)
        np.testing.assert_allclose(statistics[name], expected, rtol=0.01, atol=0.01)
    np.testing.assert_allclose(statistics["variance"], variance[:, :1], rtol=1e-6)


@each_kind
def test_matched_parameters(kind, rng):
    """Their distribution has the mean and the total variance."""
    likelihood = new(kind)
    mean, variance, aleatoric = rng.uniform(0.2, 2, size=(3, 4, 2))
    statistics = {"mean": mean, "variance": variance, "aleatoric": aleatoric}
    tensors = {name: ops.convert_to_tensor(x) for name, x in statistics.items()}
    p = np.asarray(likelihood.matched(tensors), "float64")
    matched = distribution(kind, p[:, :2], p[:, 2:])
    np.testing.assert_allclose(matched.mean(), mean, rtol=1e-5)
    np.testing.assert_allclose(matched.var(), variance + aleatoric, rtol=1e-5)
    prediction = kv.Prediction(mean, variance, None, None, aleatoric=aleatoric)
    np.testing.assert_allclose(prediction.total_variance, variance + aleatoric)
    np.testing.assert_allclose(prediction.stddev, np.sqrt(variance + aleatoric))
    y = rng.normal(size=(4, 2))
    expected = matched.logpdf(y).sum(axis=-1)
    for each in (likelihood, new(kind, scale=0.1)):  # whose scale is in `aleatoric`
        actual = each.log_predictive(y, prediction)
        np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_rmse(rng):
    mean, y = rng.normal(size=(2, 50, 1))
    expected = np.sqrt(np.mean((mean - y) ** 2))
    for given in (y, y[:, 0]):
        np.testing.assert_allclose(Gaussian().rmse(given, mean), expected)


@pytest.mark.parametrize("fixed", [False, True])
@each_kind
def test_bad_targets(kind, fixed):
    likelihood = new(kind, scale=1.0) if fixed else new(kind)
    p = np.zeros((4, 2 if fixed else 4))
    bad = [np.zeros(4), np.zeros((4, 1)), np.zeros((4, 4)), np.zeros((2, 2)), 1.0]
    for value in (np.nan, np.inf):
        bad.append(np.where(np.eye(4, 2) > 0, value, 0.0))
    bad.append(np.full((4, 2), "a"))
    for y in bad:
        with pytest.raises(ValueError, match=r"Labels must be.*Received: y of shape"):
            likelihood.log_likelihood(y, p)
        with pytest.raises(ValueError, match=r"Labels must be.*Received: y of shape"):
            likelihood.rmse(y, np.zeros((4, 2)))


def test_bad_arguments():
    for scale in (0, -1, np.nan, np.inf, "a", True):
        with pytest.raises(ValueError, match=r"`scale`.*Received: scale="):
            Gaussian(scale)
    for df in (0, -1, np.nan, None):
        with pytest.raises(ValueError, match=r"`df`.*Received: df="):
            StudentT(df)
    for shape in ((4, 3), (4,), (4, 2, 1)):
        with pytest.raises(ValueError, match=r"even in number.*Received: output\.shap"):
            Gaussian().log_likelihood(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("df", [0.5, 1.0, 2.0])
def test_no_variance(df):
    """Densities of heavy tails are exact, and a variance is refused."""
    likelihood, p = StudentT(df), np.array([[0.5, -1.0]])
    expected = stats.t(df, 0.5, np.exp(-0.5)).logpdf(2.0)
    np.testing.assert_allclose(likelihood.log_likelihood([2.0], p), [expected])
    with pytest.raises(ValueError, match=rf"`df`.*variance.*Received: df={df}"):
        likelihood.statistics(Moments(ops.convert_to_tensor(p)))


@pytest.mark.parametrize("measure", ["accuracy", "as_classes"])
def test_measures_of_classes_are_refused(measure):
    with pytest.raises(ValueError, match=r"classes.*Received: likelihood=Gaussian\("):
        getattr(Gaussian(), measure)([1.0], [[0.0, 0.0]])
    with pytest.raises(ValueError, match=r"numbers.*Received: likelihood=Categorical"):
        kv.likelihoods.Categorical().rmse([1], [[0.0, 1.0]])


def test_members():
    assert isinstance(get("gaussian"), Gaussian)
    for likelihood in (Gaussian(scale=2.0), StudentT(3.0), StudentT(4.0, 0.5)):
        config = keras.saving.serialize_keras_object(likelihood)
        assert repr(get(config)) == repr(likelihood)
