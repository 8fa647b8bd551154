"""`integrate_last`: samples up to the last variance layer, moments from there."""

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.transforms import ensemble, predictive, propagate_moments
from tests.statistics import threshold
from tests.transforms.models import new


def test_one_variance_layer_is_moments(rng):
    """Nothing is left to be drawn."""
    model, x = new("sequential", rng, posterior="layer_alpha")
    model.add(keras.layers.ReLU())
    model.add(keras.layers.Dense(4, "softmax"))
    expected = propagate_moments(model, statistics=True)(x)
    actual = predictive(model, 7, integrate_last=True)(x)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=1e-6)
    samples = np.asarray(ensemble(model, 5, integrate_last=True)(x))
    assert samples.shape == (3, 5, 4)
    np.testing.assert_array_equal(samples, np.repeat(samples[:, :1], 5, axis=1))


@pytest.mark.parametrize("name", ["stacked", "convolutional", "shared"])
def test_same_distribution(name, rng):
    """The law of total variance, and averages of less variance."""
    model, x = new(name, rng, posterior="layer_alpha")
    options = {"return_samples": True, "seed": 1}
    # `predict` compiles the loop over samples, which is worth it for so many
    plain, integrated = (
        predictive(model, 3000, integrate_last=last, **options).predict(x, verbose=0)
        for last in (False, True)
    )
    error = np.sqrt(np.asarray(plain["variance"]) / 3000)
    gap = np.abs(integrated["mean"] - plain["mean"]) / error
    assert gap.max() < 1.5 * threshold(gap.size)
    np.testing.assert_allclose(integrated["variance"], plain["variance"], rtol=0.25)
    spread = np.var(integrated["samples"], axis=1) / np.var(plain["samples"], axis=1)
    assert spread.max() < 0.95


def test_expected_entropy_of_logits(rng):
    model, x = new("stacked", rng, posterior="layer_alpha")
    options = {"likelihood": "categorical", "seed": 1}
    plain, integrated = (
        predictive(model, 2000, integrate_last=last, **options).predict(x, verbose=0)
        for last in (False, True)
    )
    for name, value in plain.items():
        np.testing.assert_allclose(integrated[name], value, atol=0.03)


def test_branches_end_each_in_a_layer_of_its_own(rng):
    """The last layer of one output is not that of the other."""
    x = keras.Input((4,))
    first = kv.VarianceDense(4, posterior="layer_alpha", name="first")
    h = first(x)
    model = keras.Model(x, [kv.VarianceDense(2)(h), keras.layers.Dense(2)(h)])
    data = rng.normal(size=(3, 4)).astype("float32")
    a, b = ensemble(model, 50, integrate_last=True)(data)
    layer = model.layers[2]
    bias = np.broadcast_to(layer.bias, (3, 50, 2))
    np.testing.assert_allclose(a, bias, atol=1e-6)  # the mean of mean-zero weights
    assert np.ptp(b, axis=1).min() > 0  # `first` is drawn


def test_a_layer_without_a_rule(rng):
    model, _ = new("stacked", rng)
    model.add(keras.layers.UnitNormalization(name="norm"))
    with pytest.raises(ValueError, match=r"'norm' of class .*Received: "):
        ensemble(model, 3, integrate_last=True)
