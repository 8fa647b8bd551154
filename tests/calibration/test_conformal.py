"""Conformal prediction: its guarantee by simulation, its scores by brute force."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_variance as kv
from keras_variance.calibration import conformal, temperature_scaling
from keras_variance.calibration.conformal_prediction import (
    INTERVALS,
    SETS,
    PredictionInterval,
    PredictionSet,
    threshold,
)

SPLITS, POOL, CLASSES = 1000, 2000, 6
PROBABILITIES = kv.likelihoods.Categorical()


def brute_force_scores(p, method, penalty, free):
    scores = np.zeros_like(p)
    for row, each in zip(scores, p, strict=True):
        for k in range(len(each)):
            more = each[each > each[k]]
            row[k] = 1 - each[k] if method == "lac" else more.sum()
            if method == "raps":
                row[k] += penalty * max(len(more) + 1 - free, 0)
    return scores


@pytest.mark.parametrize("method", SETS)
def test_scores_of_classes(method, rng):
    p = rng.dirichlet(np.ones(CLASSES), size=50).astype("float32")
    layer = PredictionSet(method, PROBABILITIES, penalty=0.1, free_classes=2)
    scores = np.asarray(layer.class_scores(ops.convert_to_tensor(p)))
    expected = brute_force_scores(p.astype("float64"), method, 0.1, 2)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    labels = rng.integers(0, CLASSES, 50)
    own = layer.scores(ops.convert_to_tensor(p), labels)
    np.testing.assert_array_equal(own, scores[np.arange(50), labels])


def pool_of_scores(method, rng):
    """Scores of the labels of a pool of examples, by the layer of the model.

    The most probable class is right less often than is asked for.
    """
    if method in SETS:
        p = rng.dirichlet(np.full(CLASSES, 0.5), size=POOL).astype("float32")
        wrong = rng.dirichlet(np.full(CLASSES, 0.5), size=POOL)
        labels = np.array(
            [
                rng.choice(CLASSES, p=(a + b) / (a + b).sum())
                for a, b in zip(p, wrong, strict=True)
            ]
        )
        layer = PredictionSet(method, PROBABILITIES)
        return layer.scores(ops.convert_to_tensor(p), labels)
    y = rng.standard_t(3, size=POOL)
    ends = np.stack([-np.ones(POOL), np.ones(POOL)], axis=-1) * rng.uniform(
        size=(POOL, 1)
    )
    outputs = np.zeros(POOL) if method == "absolute_residual" else ends
    return PredictionInterval(method).scores(
        ops.convert_to_tensor(outputs.astype("float32")), y
    )


@pytest.mark.parametrize("alpha, examples", [(0.1, 50), (0.2, 19), (0.05, 200)])
@pytest.mark.parametrize("method", [*SETS, *INTERVALS])
def test_coverage(method, alpha, examples, rng):
    """Over splits of a pool: that of the guarantee, k/(n + 1), up to five standard
    errors; so within [1 − α, 1 − α + 1/(n + 1)] up to that."""
    scores = pool_of_scores(method, rng)
    order = rng.permuted(np.tile(np.arange(POOL), (SPLITS, 1)), axis=1)
    scores = scores[order].T  # (examples of the pool, splits)
    own, rest = scores[:examples], scores[examples:]
    covered = np.mean(rest <= threshold(own, alpha), axis=0)
    error = covered.std() / np.sqrt(SPLITS)
    low, high = 1 - alpha, 1 - alpha + 1 / (examples + 1)
    assert error < 0.005
    assert low - 5 * error < covered.mean() < high + 5 * error
    exact = np.ceil(round((examples + 1) * (1 - alpha), 9)) / (examples + 1)
    assert abs(covered.mean() - exact) < 5 * error


def test_threshold_is_the_rank_it_should_be():
    scores = np.random.default_rng(0).permutation(99) + 1
    assert threshold(scores, 0.1) == 90
    assert threshold(scores[scores <= 29], 0.1) == 27  # not 28, by rounding 30 · 0.9
    assert threshold(scores[scores <= 10], 0.1) == 10
    both = np.stack([scores, 2 * scores], axis=-1)
    np.testing.assert_array_equal(threshold(both, 0.1), [90, 180])


def classifier(activation=None):
    layers = [keras.Input((4,)), keras.layers.Dense(3, activation)]
    return keras.Sequential(layers)


@pytest.fixture
def labelled(rng):
    return rng.normal(size=(60, 4)).astype("float32"), rng.integers(0, 3, 60)


@pytest.mark.parametrize("method", SETS)
def test_model_of_sets(method, labelled, tmp_path):
    x, y = labelled
    model = classifier()
    options = {"penalty": 0.2, "free_classes": 1, "likelihood": "categorical"}
    made = conformal(model, x, y, 0.2, method, **options)
    made.save(tmp_path / "model.keras")
    p = np.asarray(ops.softmax(model(x)))
    scores = brute_force_scores(p.astype("float64"), method, 0.2, 1)
    q = np.sort(scores[np.arange(60), y])[48]  # ⌈61 · 0.8⌉ = 49
    unsure = np.abs(scores - q) < 1e-5
    for each in (made, keras.models.load_model(tmp_path / "model.keras")):
        outputs = each.predict(x, verbose=0)
        assert outputs["set"].dtype == bool
        np.testing.assert_allclose(outputs["mean"], p, rtol=1e-5)
        np.testing.assert_array_equal(outputs["set"][~unsure], (scores <= q)[~unsure])
    assert outputs["set"][np.arange(60), y].mean() >= 0.8 - 1 / 60
    assert len(made.trainable_variables) == len(model.trainable_variables)


@pytest.mark.parametrize("shape", [(), (1,), (2,)])
def test_model_of_residuals(shape, labelled, rng, tmp_path):
    x, _ = labelled
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense((*shape, 1)[0])])
    f = np.asarray(model(x))
    y = (f + rng.normal(size=f.shape) * [1, 5][: f.shape[1]]).reshape(60, *shape)
    made = conformal(model, x, y, 0.2, "absolute_residual")
    made.save(tmp_path / "model.keras")
    q = np.sort(np.abs(y.reshape(f.shape) - f), axis=0)[48]
    for each in (made, keras.models.load_model(tmp_path / "model.keras")):
        outputs = each.predict(x, verbose=0)
        np.testing.assert_allclose(outputs["lower"], f - q, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(outputs["upper"], f + q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("narrow", [False, True])
def test_model_of_quantiles(narrow, labelled, rng):
    """Widened where they cover too little, narrowed where too much."""
    x, _ = labelled
    dense = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((4,)), dense])
    kernel = rng.normal(size=(4, 1)).repeat(2, axis=1)
    bias = np.array([-9.0, 9.0] if narrow else [-0.1, 0.1])
    dense.set_weights([kernel, bias])
    lower, upper = np.asarray(model(x)).T
    y = (x @ kernel[:, :1] + rng.normal(size=(60, 1))).astype("float32")
    outputs = conformal(model, x, y, 0.2, "cqr")(x)
    q = np.sort(np.maximum(lower - y[:, 0], y[:, 0] - upper))[48]
    assert q < 0 if narrow else q > 0
    np.testing.assert_allclose(outputs["lower"], lower - q, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["upper"], upper + q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("likelihood", ["auto", "categorical"])
def test_after_average_and_temperature(likelihood, rng):
    """Whose outputs are probabilities, also of a model of logits."""
    x = rng.normal(size=(60, 4)).astype("float32")
    layer = kv.VarianceDense(3, posterior="layer_alpha")
    model = keras.Sequential([keras.Input((4,)), layer])
    means = x @ np.asarray(layer.kernel)
    y = (means + rng.gumbel(size=(60, 3), scale=means.std() / 3)).argmax(axis=-1)
    options = {"likelihood": "categorical", "seed": 1}
    for source in (
        kv.transforms.average(model, **options),
        temperature_scaling(model, x, y, **options),
        temperature_scaling(model, x, y, averaged="logits", **options),
    ):
        made = conformal(source, x, y, 0.2, "aps", likelihood)
        outputs = made.predict(x, verbose=0)
        expected = source.predict(x, verbose=0)
        # Noise of its own, and so near: a second softmax would be far
        assert np.abs(outputs["mean"] - expected).mean() < 0.1
        np.testing.assert_allclose(outputs["mean"].sum(-1), 1, rtol=1e-5)
        largest = outputs["mean"].max(-1).mean()
        assert largest == pytest.approx(expected.max(-1).mean(), abs=0.05)


def test_bad_arguments(labelled):
    x, y = labelled
    model = classifier("softmax")
    before = model.get_weights()
    for alpha in (0, 1, np.nan, "0.1"):
        with pytest.raises(ValueError, match=r"Argument `alpha` must be a finite numb"):
            conformal(model, x, y, alpha)
    with pytest.raises(
        ValueError, match=r"`alpha` must be 1/60 .*Received: alpha=0.01"
    ):
        conformal(model, x, y, 0.01)
    with pytest.raises(ValueError, match=r"`method` must be one of"):
        conformal(model, x, y, method="split")
    with pytest.raises(ValueError, match=r"`y` must be labels of two classes"):
        conformal(model, x, np.ones(60))
    steps = keras.Sequential([keras.Input((5, 4)), keras.layers.Dense(3, "softmax")])
    with pytest.raises(ValueError, match=r"`model` must be a model of outputs"):
        conformal(steps, np.ones((60, 5, 4)), np.arange(300).reshape(60, 5) % 3)
    for bad in (np.full(60, np.nan), y + 1, y[:-1]):
        with pytest.raises(ValueError, match=r"Received: y"):
            conformal(model, x, bad)
    with pytest.raises(ValueError, match=r"`penalty` must be"):
        conformal(model, x, y, method="raps", penalty=-1)
    binary = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    with pytest.raises(ValueError, match=r"`likelihood` must be one of 'categorical'"):
        conformal(binary, x, y % 2)
    numbers = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    for bad in (np.full(60, np.nan), np.ones(59), np.ones((60, 2))):
        with pytest.raises(ValueError, match=r"Argument"):
            conformal(numbers, x, bad, method="absolute_residual")
    with pytest.raises(ValueError, match=r"lower and upper ends"):
        conformal(numbers, x, np.ones(60), method="cqr")
    for value, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, now)


def test_predictions_that_are_nan(labelled):
    x, y = labelled
    model = classifier("softmax")
    model.layers[0].kernel.assign(np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match=r"Argument `model` must be .*NaN"):
        conformal(model, x, y)
