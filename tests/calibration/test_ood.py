"""Scores of examples that are out of distribution, against SciPy."""

import keras
import numpy as np
import pytest
from scipy import special, stats

import keras_variance as kv
from keras_variance.calibration import ood_score
from keras_variance.calibration.ood import SCORES

SAMPLES = 7


def model_of(units, activation=None):
    hidden = kv.VarianceDense(8, "relu", posterior="layer_alpha")
    layers = [keras.Input((4,)), hidden, keras.layers.Dense(units, activation)]
    return keras.Sequential(layers)


def probabilities(model, x, binary):
    """Of samples, (examples, samples, variables, classes), and logits."""
    z = np.asarray(kv.transforms.ensemble(model, SAMPLES, seed=1)(x), "float64")
    if not binary:
        return special.softmax(z, axis=-1)[:, :, None], z
    p = special.expit(z)
    return np.stack([1 - p, p], axis=-1), z


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli"])
def test_against_scipy(score, likelihood, rng, tmp_path):
    model, x = model_of(3), 3 * rng.normal(size=(20, 4)).astype("float32")
    if score == "energy" and likelihood == "bernoulli":
        with pytest.raises(ValueError, match=r"must be categorical logits. Received"):
            ood_score(model, score, likelihood=likelihood)
        return
    p, z = probabilities(model, x, likelihood == "bernoulli")
    mean = p.mean(axis=1)
    entropy = stats.entropy(mean, axis=-1).sum(axis=-1)
    expected = {
        "entropy": lambda: entropy,
        "mutual_information": lambda: (
            entropy - stats.entropy(p, axis=-1).sum(axis=-1).mean(axis=1)
        ),
        "max_probability": lambda: 1 - mean.max(axis=-1).prod(axis=-1),
        "energy": lambda: -special.logsumexp(z, axis=-1).mean(axis=1),
    }[score]()
    made = ood_score(model, score, SAMPLES, likelihood, seed=1)
    made.save(tmp_path / "model.keras")
    for each in (made, keras.models.load_model(tmp_path / "model.keras")):
        np.testing.assert_allclose(each(x), expected, rtol=1e-3, atol=1e-5)
    assert made.predict(x, verbose=0).shape == (20,)


def test_higher_out_of_distribution(rng):
    """Trained on two clusters, asked far from both."""
    x = np.concatenate([rng.normal(size=(200, 4)) + 3, rng.normal(size=(200, 4)) - 3])
    model = model_of(2, "softmax")
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x, np.repeat([0, 1], 200), epochs=5, verbose=0)
    between = rng.normal(size=(200, 4))
    for score in ("mutual_information", "entropy", "max_probability"):
        made = ood_score(model, score)
        scores = [made.predict(each, verbose=0) for each in (x, between)]
        assert kv.metrics.ood_metrics(*scores).auroc > 0.8


def test_dropout_as_noise(rng):
    layers = [keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    made = ood_score(model, "energy", likelihood="categorical", dropout=True)
    assert made.predict(rng.normal(size=(5, 4)), verbose=0).shape == (5,)


def test_bad_arguments():
    model = model_of(3, "softmax")
    with pytest.raises(ValueError, match=r"Argument `score` must be one of"):
        ood_score(model, "variance")
    with pytest.raises(ValueError, match=r"must be categorical logits"):
        ood_score(model, "energy")
    with pytest.raises(ValueError, match=r"Argument `likelihood` must say"):
        ood_score(model_of(3))
    with pytest.raises(ValueError, match=r"with variance layers"):
        plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
        ood_score(plain)
