import keras
import numpy as np
import pytest
from keras import ops

import keras_variance as kv
from tests.statistics import threshold


def new(rng, rows=40):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            kv.VarianceDense(5, posterior="layer_alpha", prior="ard", train_size=rows),
            keras.layers.ReLU(),
            kv.VarianceDense(3),
        ]
    )
    x = rng.normal(size=(rows, 4)).astype("float32")
    return model, x, rng.integers(0, 3, rows)


@pytest.mark.parametrize("samples", [20, 205])
def test_agrees_with_a_brute_force_loop(samples, rng):
    """The difference of two averages, in its standard errors."""
    model, x, y = new(rng)
    labels = np.arange(len(y)), y
    loop = [np.sum(np.asarray(ops.log_softmax(model(x)))[labels]) for _ in range(400)]
    bound = kv.elbo(model, x, y, samples, likelihood="categorical", verbose=0)
    error = np.std(loop) * np.sqrt(1 / len(loop) + 1 / samples)
    assert abs(bound.data_term - np.mean(loop)) / error < threshold(1)
    kl = float(model.layers[0].kl_divergence())
    np.testing.assert_allclose(bound.kl, kl, rtol=1e-6)
    assert bound.elbo == bound.data_term - bound.kl


def test_exact_without_noise(rng):
    layer = kv.VarianceDense(
        3, posterior=kv.posteriors.LayerAlpha(-60), activation="softmax"
    )
    model = keras.Sequential([keras.Input((4,)), layer])
    x, y = rng.normal(size=(10, 4)).astype("float32"), rng.integers(0, 3, (10, 1))
    expected = np.log(np.asarray(model(x))[np.arange(10), y[:, 0]]).sum()
    bound = kv.elbo(model, x, y, samples=2, verbose=0)
    np.testing.assert_allclose(bound, [expected, expected, 0], rtol=1e-5)


def test_own_log_likelihood(rng):
    model, x, _ = new(rng)
    y = np.zeros((len(x), 3))

    def gaussian(y, outputs):
        return -0.5 * np.sum((y - outputs) ** 2 + np.log(2 * np.pi), axis=-1)

    bound = kv.elbo(model, x, y, log_likelihood=gaussian, seed=1, verbose=0)
    assert bound.data_term < -0.5 * 3 * np.log(2 * np.pi) * len(x)
    again = kv.elbo(model, x, y, log_likelihood=gaussian, seed=1, verbose=0)
    assert bound == again


def test_bad_input(rng):
    model, x, y = new(rng)
    with pytest.raises(ValueError, match=r"`y` must have a row.*Received: y with 39"):
        kv.elbo(model, x, y[1:])
    with pytest.raises(ValueError, match="Received: samples=0"):
        kv.elbo(model, x, y, samples=0)
