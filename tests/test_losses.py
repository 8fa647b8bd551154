"""Losses of numbers against SciPy, NumPy and draws."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import keras_variance as kv
from keras_variance.losses import ExpectedGaussianNLL, GaussianNLL, StudentTNLL
from tests import backends


@pytest.fixture
def data(rng):
    """Targets, means and log variances, (6, 2)."""
    return rng.normal(size=(3, 6, 2)).astype("float32")


def outputs(*parts):
    return np.concatenate(parts, axis=-1)


def test_values(data):
    """Nats of each example, averaged over them."""
    y, m, s = data
    stddev = np.exp(s / 2)
    for loss, density in (
        (GaussianNLL(), stats.norm(m, stddev)),
        (StudentTNLL(df=3.5), stats.t(3.5, m, stddev)),
    ):
        expected = -density.logpdf(y).sum(axis=-1)
        np.testing.assert_allclose(loss(y, outputs(m, s)), expected.mean(), rtol=1e-5)
        weights = np.arange(6.0)
        weighted = loss(y, outputs(m, s), weights)
        np.testing.assert_allclose(weighted, np.mean(weights * expected), rtol=1e-5)
    for loss, density in (
        (GaussianNLL(scale=0.3), stats.norm(m, 0.3)),
        (StudentTNLL(df=3.5, scale=0.3), stats.t(3.5, m, 0.3)),
    ):
        expected = -density.logpdf(y).sum(axis=-1).mean()
        np.testing.assert_allclose(loss(y, m), expected, rtol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_gradient_of_beta_nll(beta, data):
    """σ^(2β) (m − y) / σ² in m, σ^(2β) ½ (1 − (y − m)² / σ²) in s."""
    y, m, s = data.astype("float64")
    variable = keras.Variable(outputs(m, s), dtype="float32")
    loss = GaussianNLL(beta, reduction="sum")
    value, (gradient,) = backends.gradients(
        lambda: loss(y, ops.convert_to_tensor(variable)), [variable]
    )
    weight, error = np.exp(beta * s), y - m
    expected = outputs(
        -weight * error * np.exp(-s), weight * (1 - error**2 * np.exp(-s)) / 2
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)
    density = stats.norm(m, np.exp(s / 2)).logpdf(y)
    np.testing.assert_allclose(value, -np.sum(weight * density), rtol=1e-5)


@pytest.mark.parametrize("scale", [None, 0.6])
def test_expected_nll_is_that_of_draws(scale, rng):
    """Of Gaussian means and log variances, independent."""
    y, m, s = rng.normal(size=(3, 6, 2))
    vm, vs = rng.uniform(0.1, 0.5, size=(2, 6, 2))
    draws = m + np.sqrt(vm) * rng.normal(size=(200_000, 6, 2))
    of_s = s + np.sqrt(vs) * rng.normal(size=draws.shape)
    stddev = np.exp(of_s / 2) if scale is None else scale
    each = -stats.norm(draws, stddev).logpdf(y).sum(axis=-1).mean(axis=-1)
    p = outputs(m, s, vm, vs) if scale is None else outputs(m, vm)
    actual = float(ExpectedGaussianNLL(scale)(y, p))
    error = (actual - each.mean()) / (each.std() / np.sqrt(len(each)))
    assert abs(error) < 5
    known = outputs(m, s, 0 * m, 0 * s) if scale is None else outputs(m, 0 * m)
    expected = GaussianNLL(scale=scale)(y, outputs(m, s) if scale is None else m)
    np.testing.assert_allclose(ExpectedGaussianNLL(scale)(y, known), expected, 1e-5)


LOSSES = [
    GaussianNLL(0.5),
    GaussianNLL(scale=2.0),
    StudentTNLL(3.0),
    StudentTNLL(3.0, 0.5),
    ExpectedGaussianNLL(),
    ExpectedGaussianNLL(0.5),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_serialization(loss):
    restored = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(restored) is type(loss)
    assert restored.get_config() == loss.get_config()


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_in_single_precision(policy, rng):
    """Under mixed precision, too: the square of an error of 300 is not infinite."""
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.0), GaussianNLL())
    x, y = rng.normal(size=(8, 3)), np.full(8, 300.0)
    loss = model.fit(x, y, verbose=0).history["loss"][0]
    m, s = np.split(np.asarray(model.predict(x, verbose=0), "float64"), 2, axis=-1)
    expected = -stats.norm(m, np.exp(s / 2)).logpdf(y[:, None]).mean()
    np.testing.assert_allclose(loss, expected, rtol=0.01)


def test_targets_may_lack_an_axis_of_size_1(data):
    y, m, s = data[..., :1]
    expected = GaussianNLL()(y, outputs(m, s))
    np.testing.assert_allclose(GaussianNLL()(y[:, 0], outputs(m, s)), expected)
    p = outputs(m, s, m**2, s**2)
    expected = ExpectedGaussianNLL()(y, p)
    np.testing.assert_allclose(ExpectedGaussianNLL()(y[:, 0], p), expected)


def test_targets_of_another_shape(data):
    """Which would be broadcast otherwise."""
    y, m, s = data
    for each in (y[:, 0], y[:, :1], y[:1], outputs(y, y), y[..., None]):
        with pytest.raises(ValueError, match=r"`y_true`.*\(6, 2\).*Received: y_true"):
            GaussianNLL()(each, outputs(m, s))
    with pytest.raises(ValueError, match=r"even in number.*Received: output\.shape"):
        StudentTNLL(3.0)(y[:, 0], np.ones((6, 3)))
    with pytest.raises(ValueError, match=r"`y_pred`.*Received: y_pred="):
        GaussianNLL(scale=1.0)(y[:, 0], m[:, 0])
    for loss, size in ((ExpectedGaussianNLL(), 3), (ExpectedGaussianNLL(), 2)):
        with pytest.raises(ValueError, match=r"Received: (y_pred|output\.shape)="):
            loss(y[:, 0], np.ones((6, size)))


def test_nan_is_nan(data):
    y, m, s = data
    y[0, 0] = np.nan
    assert np.isnan(float(GaussianNLL()(y, outputs(m, s))))


def test_bad_arguments():
    for make, name, value in (
        (GaussianNLL, "beta", -0.1),
        (GaussianNLL, "scale", 0.0),
        (ExpectedGaussianNLL, "scale", -1.0),
        (StudentTNLL, "df", 0.0),
    ):
        with pytest.raises(ValueError, match=rf"`{name}`.*Received: {name}={value}"):
            make(**{name: value})


def test_deterministic_variational_inference(rng):
    """The loss of a model of moments: no noise in training, and the best fit is found.

    Of a linear model with a Gaussian prior and known noise, it is the posterior of
    ridge regression.
    """
    n, scale = 64, 0.5
    x = rng.normal(size=(n, 2)).astype("float32")
    y = x @ [1.0, -2.0] + scale * rng.normal(size=n)
    layer = kv.VarianceDense(
        1, posterior="additive", prior="normal", train_size=n, use_bias=False
    )
    model = keras.Sequential([keras.Input((2,)), layer])
    options = {"likelihood": None, "statistics": True}
    moments = kv.transforms.propagate_moments(model, **options)
    outputs = [moments.output[name] for name in ("mean", "variance")]
    trained = keras.Model(moments.input, keras.layers.Concatenate()(outputs))
    trained.compile(keras.optimizers.Adam(0.05), ExpectedGaussianNLL(scale))
    losses = trained.fit(x, y, batch_size=n, epochs=300, verbose=0).history["loss"]
    precision = x.T @ x / scale**2 + np.eye(2)
    expected = np.linalg.solve(precision, x.T @ y / scale**2)
    np.testing.assert_allclose(np.array(layer.kernel)[:, 0], expected, atol=2e-3)
    stddev = np.array(layer.kernel_scale)[:, 0]
    np.testing.assert_allclose(stddev, np.diag(precision) ** -0.5, rtol=0.01)
    bound = kv.elbo(
        model, x, y, 2000, kv.likelihoods.Gaussian(scale), seed=1, verbose=0
    )
    np.testing.assert_allclose(losses[-1], -bound.elbo / n, rtol=0.01)
