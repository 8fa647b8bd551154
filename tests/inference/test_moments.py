import keras
import numpy as np
import pytest

import keras_variance as kv
from tests import backends
from tests.transforms.models import WALKED, new


@pytest.mark.parametrize("name", ["sequential", "stacked", "convolutional"])
def test_near_monte_carlo(name, rng):
    """Every field, for class probabilities.

    Near where the variance layer is the last one; with two of them only roughly.
    """
    model, x = new(name, rng, posterior="layer_alpha")
    monte_carlo = kv.mc_predict(model, x, 2000, likelihood="categorical", verbose=0)
    moments = kv.moment_predict(model, x, likelihood="categorical", verbose=0)
    for field in ("mean", "variance", "entropy", "mutual_information"):
        a, b = getattr(moments, field), getattr(monte_carlo, field)
        assert isinstance(a, np.ndarray)
        np.testing.assert_allclose(a, b, atol=0.04 if name == "sequential" else 0.2)
    assert moments.samples is None


def test_mutual_information_to_second_order(rng):
    """Where only mean and variance of the probabilities are known."""
    model, x = new("sequential", rng, posterior="layer_alpha")
    options = {"likelihood": "categorical", "verbose": 0}
    p = kv.moment_predict(model, x, head="mean_field", **options)
    expected = (p.variance / p.mean).sum(axis=-1) / 2
    np.testing.assert_allclose(p.mutual_information, expected, rtol=1e-3, atol=1e-6)
    other = kv.moment_predict(model, x, **options)
    np.testing.assert_allclose(p.mutual_information, other.mutual_information, atol=0.1)


@pytest.mark.parametrize("name", WALKED)
def test_structure(name, rng):
    """That of `mc_predict`."""
    model, x = new(name, rng)
    a = kv.moment_predict(model, x, verbose=0)
    b = kv.mc_predict(model, x, 2, verbose=0)
    assert isinstance(a, kv.Prediction) or set(a) == set(b)
    a, b = keras.tree.flatten(a), keras.tree.flatten(b)
    for each, other in zip(a, b, strict=True):
        assert getattr(each, "shape", None) == getattr(other, "shape", None)


def test_regression(rng):
    """No probabilities: no entropy."""
    model, x = new("sequential", rng, posterior="additive")
    prediction = kv.moment_predict(model, keras.ops.convert_to_tensor(x), verbose=0)
    layer = model.layers[-1]
    features = np.asarray(model.layers[0](x))
    variance = features**2 @ np.asarray(layer.kernel_scale) ** 2
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-5)
    assert prediction.entropy is prediction.mutual_information is None
    batched = kv.moment_predict(model, x, batch_size=2, verbose=0)
    np.testing.assert_allclose(batched.mean, prediction.mean, rtol=1e-5)


@backends.tensorflow_only
def test_dataset(rng):
    import tensorflow as tf

    model, x = new("sequential", rng, posterior="additive")
    expected = kv.moment_predict(model, x, verbose=0)
    data = tf.data.Dataset.from_tensor_slices(x).batch(2)
    batched = kv.moment_predict(model, data, verbose=0)
    np.testing.assert_allclose(batched.mean, expected.mean, rtol=1e-5)


def test_a_scalar_for_each_row():
    layers = [keras.Input((4,)), kv.VarianceDense(1), keras.layers.Reshape(())]
    prediction = kv.moment_predict(keras.Sequential(layers), np.ones((3, 4)), verbose=0)
    assert prediction.variance.shape == (3,)
    assert prediction.entropy is None
