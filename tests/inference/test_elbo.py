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
    kl = float(ops.convert_to_numpy(model.layers[0].kl_divergence()))
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


class UnitGaussian(kv.likelihoods.Likelihood):
    """Labels have a normal distribution of variance 1 around the outputs."""

    def predictions(self, outputs):
        return outputs

    def log_likelihood(self, y, p):
        return -0.5 * np.sum((y - p) ** 2 + np.log(2 * np.pi), axis=-1)


def test_own_likelihood(rng):
    model, x, _ = new(rng)
    options = {"likelihood": UnitGaussian(), "seed": 1, "verbose": 0}
    bound = kv.elbo(model, x, np.zeros((len(x), 3)), **options)
    assert bound.data_term < -0.5 * 3 * np.log(2 * np.pi) * len(x)
    assert bound == kv.elbo(model, x, np.zeros((len(x), 3)), **options)


def test_seed_of_a_monte_carlo_prior(rng):
    prior = kv.priors.StudentT(method="monte_carlo")
    layer = kv.VarianceDense(3, activation="softmax", prior=prior, train_size=5)
    model = keras.Sequential([keras.Input((4,)), layer])
    x, y = rng.normal(size=(5, 4)), rng.integers(0, 3, 5)
    bounds = [kv.elbo(model, x, y, seed=seed, verbose=0) for seed in (1, 1, 2)]
    assert bounds[0] == bounds[1] and bounds[0].kl != bounds[2].kl


def test_several_outputs(rng):
    """Those with a likelihood count, one-hot labels too."""
    x = keras.Input((4,), name="x")
    layer = kv.VarianceDense(4, posterior=kv.posteriors.LayerAlpha(-60))
    h = layer(x)
    outputs = {
        "kind": keras.layers.Dense(3, "softmax")(h),
        "yes": keras.layers.Dense(1, "sigmoid")(h),
        "size": keras.layers.Dense(2)(h),
    }
    model = keras.Model({"x": x}, outputs)
    data = {"x": rng.normal(size=(10, 4)).astype("float32")}
    kind, yes = rng.integers(0, 3, 10), rng.integers(0, 2, 10)
    p = model.predict(data, verbose=0)
    expected = np.log(p["kind"])[np.arange(10), kind].sum()
    expected += np.log(np.where(yes, p["yes"][:, 0], 1 - p["yes"][:, 0])).sum()
    y = {"kind": np.eye(3)[kind], "yes": yes, "size": np.ones((10, 2))}
    bound = kv.elbo(model, data, y, samples=2, verbose=0)
    np.testing.assert_allclose(bound.elbo, expected, rtol=1e-5)


def test_bad_input(rng):
    model, x, y = new(rng)
    with pytest.raises(ValueError, match=r"same number.*Received: y with 39"):
        kv.elbo(model, x, y[1:], likelihood="categorical")
    with pytest.raises(ValueError, match="Received: samples=0"):
        kv.elbo(model, x, y, samples=0, likelihood="categorical")
    with pytest.raises(ValueError, match=r"cross-entropy.*Received: likelihood='auto'"):
        kv.elbo(model, x, y)
    for wrong in (y - 1, y + 0.5, np.where(y, np.nan, 0.0), np.zeros((len(x), 2))):
        with pytest.raises(ValueError, match=r"Labels must be .*Received: y of shape"):
            kv.elbo(model, x, wrong, likelihood="categorical", verbose=0)


@pytest.mark.parametrize("part", ["weights", "data"])
def test_nan_is_nan(part, rng):
    model, x, y = new(rng)
    if part == "weights":
        model.layers[0].kernel.assign(np.full((4, 5), np.nan))
    else:
        x[0, 0] = np.nan
    bound = kv.elbo(model, x, y, likelihood="categorical", verbose=0)
    assert np.isnan(bound.elbo) and np.isnan(bound.data_term)


def test_many_samples_are_few_predictions(rng, monkeypatch, capsys):
    """With few examples, and one progress bar over all of them."""
    model, x, y = new(rng)
    calls, predict = [], keras.Model.predict
    monkeypatch.setattr(
        keras.Model,
        "predict",
        lambda self, *args, **kwargs: (
            calls.append(self) or predict(self, *args, **kwargs)
        ),
    )
    kv.elbo(model, x, y, 300, likelihood="categorical", batch_size=20)
    assert len(calls) == 2  # of 256 and of 44 samples
    assert capsys.readouterr().out.count("4/4") == 1
    kv.elbo(model, x, y, likelihood="categorical", verbose=0)
    assert not capsys.readouterr().out
