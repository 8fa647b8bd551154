import keras
import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import keras_variance as kv
from tests.statistics import threshold

SCALE = 0.4


def linear(rng, rows=20):
    """A linear model whose predictive distribution is known: (model, x, y, mean and
    variance of its output)."""
    layer = kv.VarianceDense(2, posterior=kv.posteriors.Additive(-2.0))
    model = keras.Sequential([keras.Input((4,)), layer])
    x = rng.normal(size=(rows, 4)).astype("float32")
    y = x @ np.asarray(layer.kernel) + rng.normal(size=(rows, 2))
    layer.bias.assign([0.3, -0.2])
    mean = x @ np.asarray(layer.kernel) + np.asarray(layer.bias)
    variance = np.square(x) @ np.square(np.asarray(layer.kernel_scale))
    return model, x, y, mean, variance


GAUSSIAN = {"likelihood": kv.likelihoods.Gaussian(SCALE), "verbose": 0}


def test_of_a_linear_model(rng):
    """N(m, v + σ²), exactly."""
    model, x, y, mean, variance = linear(rng)
    samples = 4_000
    actual = kv.log_likelihood(model, x, y, samples, seed=1, **GAUSSIAN)
    total = variance + SCALE**2
    expected = stats.norm(mean, np.sqrt(total)).logpdf(y).sum(axis=-1)
    # N(y; m, σ²)² = N(y; m, σ²/2) / 2σ√π, whose expectation is Gaussian, too
    squares = stats.norm(mean, np.sqrt(variance + SCALE**2 / 2)).logpdf(y)
    squares = np.sum(squares - np.log(2 * SCALE * np.sqrt(np.pi)), axis=-1)
    error = np.sqrt((np.exp(squares - 2 * expected) - 1) / samples)
    z = (np.exp(actual - expected) - 1) / error
    assert np.abs(z).max() < threshold(len(z))
    prediction = kv.moment_predict(model, x, **GAUSSIAN)
    np.testing.assert_allclose(prediction.mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-4)
    np.testing.assert_allclose(prediction.aleatoric, SCALE**2, rtol=1e-5)
    assert prediction.entropy is prediction.mutual_information is None
    by_moments = GAUSSIAN["likelihood"].log_predictive(y, prediction)
    np.testing.assert_allclose(by_moments, expected, rtol=1e-4)


def test_chunks_are_one_mixture(rng):
    """log 1/K Σ p(y | x, w_k) of all samples, drawn part by part."""
    model, x, y, *_ = linear(rng, rows=300)
    actual = kv.log_likelihood(model, x, y, 45, seed=3, **GAUSSIAN)
    each = []
    for k, size in enumerate([20, 20, 5]):
        ensemble = kv.transforms.ensemble(model, size)
        with kv.random.seeded(ensemble, kv.random.derive(3, k)):
            each.append(ensemble.predict(x, 256, verbose=0))
    draws = np.concatenate(each, axis=1)
    density = stats.norm(draws, SCALE).logpdf(y[:, None]).sum(axis=-1)
    expected = special.logsumexp(density, axis=1) - np.log(45)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    again = kv.log_likelihood(model, x, y, 45, seed=3, **GAUSSIAN)
    np.testing.assert_array_equal(actual, again)


def test_of_classes_is_that_of_averaged_probabilities(rng):
    """In the limit of many samples, of logits too."""
    layer = kv.VarianceDense(3, posterior="layer_alpha")
    model = keras.Sequential([keras.Input((4,)), layer])
    x, y = rng.normal(size=(10, 4)), rng.integers(0, 3, 10)
    options = {"likelihood": "categorical", "verbose": 0}
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    actual = kv.log_likelihood(model, x, y, 4000, seed=1, **options)
    p = kv.mc_predict(model, x, 4000, seed=2, **options).mean
    np.testing.assert_allclose(actual, np.log(p[np.arange(10), y]), atol=0.08)


def test_two_binary_variables_are_one_label(rng):
    """Given the weights they are independent, over the weights they are not."""
    dense = kv.VarianceDense(1, posterior=kv.posteriors.Additive(3.0))
    model = keras.Sequential(
        [keras.Input((1,)), dense, keras.layers.Dense(2, use_bias=False)]
    )
    model.layers[-1].kernel.assign([[1.0, 1.0]])
    dense.kernel.assign([[0.0]])
    x, y = np.ones((1, 1)), np.ones((1, 2))
    likelihood = kv.likelihoods.Bernoulli(from_logits=True)
    options = {"likelihood": likelihood, "seed": 1, "verbose": 0}
    (actual,) = kv.log_likelihood(model, x, y, 4000, **options)
    logit = np.exp(1.5) * rng.normal(size=400_000)
    expected = np.log(np.mean(special.expit(logit) ** 2))
    assert abs(actual - expected) < 0.1 < expected - 2 * np.log(0.5)


def test_several_outputs(rng):
    """In their structure, with None for one without a likelihood."""
    x = keras.Input((4,), name="x")
    h = kv.VarianceDense(4, posterior=kv.posteriors.Additive(-80.0))(x)
    outputs = {
        "kind": keras.layers.Dense(3, "softmax")(h),
        "size": keras.layers.Dense(4, name="size")(h),
        "what": h,
    }
    model = keras.Model(x, outputs)
    model.compile(
        loss={
            "kind": "sparse_categorical_crossentropy",
            "size": kv.losses.StudentTNLL(5.0),
            "what": "mse",
        }
    )
    data = rng.normal(size=(6, 4)).astype("float32")
    y = {"kind": rng.integers(0, 3, 6), "size": rng.normal(size=(6, 2)), "what": data}
    actual = kv.log_likelihood(model, data, y, 3, verbose=0)
    p = model.predict(data, verbose=0)
    assert set(actual) == {"kind", "size", "what"} and actual["what"] is None
    expected = np.log(p["kind"][np.arange(6), y["kind"]])
    np.testing.assert_allclose(actual["kind"], expected, rtol=1e-4)
    m, s = np.split(np.asarray(p["size"], "float64"), 2, axis=-1)
    expected = stats.t(5.0, m, np.exp(s / 2)).logpdf(y["size"]).sum(axis=-1)
    np.testing.assert_allclose(actual["size"], expected, rtol=1e-4)
    total = kv.elbo(model, data, y, 3, verbose=0).data_term
    assert total == pytest.approx(actual["kind"].sum() + actual["size"].sum(), rel=1e-4)


def test_dropout(rng):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    )
    x, y = rng.normal(size=(5, 4)), np.zeros(5)
    options = {"likelihood": "gaussian", "verbose": 0, "seed": 1}
    with pytest.raises(ValueError, match="Received: "):
        kv.log_likelihood(model, x, y, **options)
    values = kv.log_likelihood(model, x, y, dropout=True, **options)
    assert values.shape == (5,) and np.isfinite(values).all()


def test_bad_input(rng):
    model, x, y, *_ = linear(rng)
    for wrong in (y[:, :1], y[:, 0], np.where(y > y.min(), y, np.nan), y.astype(str)):
        with pytest.raises(ValueError, match=r"Labels must be.*Received: y of shape"):
            kv.log_likelihood(model, x, wrong, **GAUSSIAN)
    with pytest.raises(ValueError, match=r"Received: likelihood='auto'"):
        kv.log_likelihood(model, x, y)
    with pytest.raises(ValueError, match=r"Received: y with 19"):
        kv.log_likelihood(model, x, y[1:], **GAUSSIAN)


def test_elbo_in_closed_form(rng):
    """E log N(y; m, σ²) = log N(y; E[m], σ²) − Var[m] / 2σ²."""
    model, x, y, mean, variance = linear(rng)
    bound = kv.elbo(model, x, y, 2000, seed=1, **GAUSSIAN)
    expected = stats.norm(mean, SCALE).logpdf(y) - variance / SCALE**2 / 2
    # Var[(y − m)²] = 4 (y − E[m])² Var[m] + 2 Var[m]², of each number
    each = 4 * (y - mean) ** 2 * variance + 2 * variance**2
    # Noise is shared by the examples of a sample
    error = np.sqrt(each / 2000).sum() / SCALE**2 / 2
    assert abs(bound.data_term - expected.sum()) / error < threshold(1)
    assert error < 0.03 * abs(expected.sum())


def test_of_a_model_that_is_known(rng):
    """Without noise it is the likelihood of the outputs."""
    layer = kv.VarianceDense(2, posterior=kv.posteriors.Additive(-80.0))
    model = keras.Sequential([keras.Input((4,)), layer])
    x, y = rng.normal(size=(5, 4)).astype("float32"), rng.normal(size=5)
    actual = kv.log_likelihood(model, x, y, 3, likelihood="gaussian", verbose=0)
    m, s = ops.convert_to_numpy(model(x)).astype("float64").T
    expected = stats.norm(m, np.exp(s / 2)).logpdf(y)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
