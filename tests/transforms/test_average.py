"""`average`: its values, its gradient, and its file."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special

import keras_variance as kv
from keras_variance.transforms import average, ensemble, predictive
from tests import backends
from tests.transforms.models import new

SAMPLES = 30
OPTIONS = {"likelihood": "categorical", "seed": 1}


@pytest.mark.parametrize("name", ["sequential", "nested", "multiple"])
def test_is_the_mean_of_predictive(name, rng):
    model, x = new(name, rng)
    likelihood = kv.likelihoods.Categorical(from_logits=True)
    options = {"likelihood": likelihood, "seed": 1}
    statistics = predictive(model, SAMPLES, **options)(x)
    outputs = average(model, SAMPLES, **options)(x)
    if name == "multiple":
        assert outputs.keys() == statistics.keys()
        statistics, outputs = statistics["random"], outputs["random"]
    np.testing.assert_allclose(outputs, statistics["mean"], rtol=1e-6)
    np.testing.assert_allclose(ops.sum(outputs, axis=-1), 1, rtol=1e-5)


def test_gradient_by_the_inputs(rng):
    """Of the logarithm of the average, against that of the samples by hand."""
    layer = kv.VarianceDense(3, estimator="weight_sampling", seed=0)
    model = keras.Sequential([keras.Input((4,)), layer])
    row, label = rng.normal(size=(1, 4)), 2
    weights = ensemble(model, SAMPLES, seed=1)(np.eye(4, dtype="float32"))
    weights = np.moveaxis(np.asarray(weights, "float64"), 1, 0)  # (samples, 4, 3)

    p = special.softmax(row @ weights, axis=-1)[:, 0]
    by_logits = p[:, [label]] * (np.eye(3)[label] - p)
    by_input = np.mean(np.einsum("kij,kj->ki", weights, by_logits), axis=0)
    expected = by_input / p.mean(axis=0)[label]

    x = keras.Variable(row, dtype="float32")
    averaged = average(model, SAMPLES, **OPTIONS)
    _, (actual,) = backends.gradients(
        lambda: ops.sum(ops.log(averaged(ops.convert_to_tensor(x))[:, label])), [x]
    )
    np.testing.assert_allclose(actual[0], expected, rtol=1e-4)


def test_gradient_where_the_model_is_sure(rng):
    """Not 0, though the probability is 1 in single precision."""
    posterior = kv.posteriors.Additive(-10.0)
    dense = kv.VarianceDense(2, posterior=posterior, seed=0)
    model = keras.Sequential([keras.Input((1,)), dense])
    dense.kernel.assign([[12.0, -12.0]])
    x = keras.Variable([[1.0]])
    averaged = average(model, SAMPLES, **OPTIONS)
    value, (gradient,) = backends.gradients(
        lambda: ops.sum(ops.log(averaged(ops.convert_to_tensor(x))[:, 0])), [x]
    )
    # It is 24 e⁻²⁴, but for the rounding of p, as large as ε, times 24
    rounding = 24 * np.finfo("float32").eps
    assert value == 0 and 0 < abs(float(gradient[0, 0])) < rounding


def test_reloaded(tmp_path, rng):
    model, x = new("stacked", rng)
    made = average(model, SAMPLES, **OPTIONS)
    expected = np.asarray(made(x))
    made.save(tmp_path / "average.keras")
    loaded = keras.models.load_model(tmp_path / "average.keras")
    np.testing.assert_allclose(loaded(x), expected, rtol=1e-6)


def test_numbers(rng, tmp_path):
    """Mean and log total variance: the outputs of the Gaussian that fits best."""
    dense = kv.VarianceDense(4, posterior="layer_alpha")
    model = keras.Sequential([keras.Input((3,)), dense])
    x = rng.normal(size=(5, 3)).astype("float32")
    options = {"likelihood": "gaussian"}
    averaged = average(model, SAMPLES, **options)
    prediction = kv.mc_predict(model, x, SAMPLES, seed=1, verbose=0, **options)
    with kv.random.seeded(averaged, 1):
        outputs = np.asarray(averaged(x))
    assert averaged.output_shape == (None, 4)
    np.testing.assert_allclose(outputs[:, :2], prediction.mean, rtol=1e-4, atol=1e-6)
    total = np.log(prediction.total_variance)
    np.testing.assert_allclose(outputs[:, 2:], total, rtol=1e-4, atol=1e-5)
    moments = kv.transforms.propagate_moments(model, **options)
    expected = kv.moment_predict(model, x, verbose=0, **options)
    outputs = np.asarray(moments(x))
    np.testing.assert_allclose(outputs[:, :2], expected.mean, rtol=1e-4, atol=1e-6)
    total = np.log(expected.total_variance)
    np.testing.assert_allclose(outputs[:, 2:], total, rtol=1e-4, atol=1e-5)
    for made in (averaged, moments):
        made.save(tmp_path / "made.keras")
        loaded = keras.models.load_model(tmp_path / "made.keras")
        assert loaded(x).shape == (5, 4)
