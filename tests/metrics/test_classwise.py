"""Metrics of each class, against brute force over examples, classes and bins."""

import keras
import numpy as np
import pytest

from keras_variance.metrics import (
    BrierDecomposition,
    BrierScore,
    ClasswiseCalibrationError,
)
from tests import backends

ROWS, CLASSES, BINS = 200, 4, 7
NEW = pytest.mark.parametrize("new", [ClasswiseCalibrationError, BrierDecomposition])


@pytest.fixture
def data(rng):
    """Labels, logits, probabilities and weights, some of them 0."""
    logits = rng.normal(size=(2 * ROWS, CLASSES), scale=2).astype("float32")
    exp = np.exp(logits.astype("float64"))
    p = exp / exp.sum(axis=1, keepdims=True)
    # Not so near to an edge that rounding decides on the bin
    inside = (np.abs(p * BINS % 1 - 0.5) < 0.4999).all(axis=1)
    weight = rng.uniform(size=ROWS) * rng.integers(0, 2, ROWS)
    return (
        rng.integers(0, CLASSES, ROWS),
        logits[inside][:ROWS],
        p[inside][:ROWS],
        weight,
    )


def groups(p, k):
    for b in range(BINS):
        rows = (p[:, k] > b / BINS) & (p[:, k] <= (b + 1) / BINS)
        yield rows


def brute_force_ece(labels, p, weight):
    total = 0.0
    for k in range(CLASSES):
        for rows in groups(p, k):
            if weight[rows].sum() > 0:
                share = np.average(labels[rows] == k, weights=weight[rows])
                probability = np.average(p[rows, k], weights=weight[rows])
                total += weight[rows].sum() * abs(share - probability)
    return total / weight.sum() / CLASSES


def brute_force_decomposition(labels, p, weight):
    """With the terms of Stephenson et al., one by one."""
    reliability = resolution = within = uncertainty = 0.0
    for k in range(CLASSES):
        base = np.average(labels == k, weights=weight)
        uncertainty += base * (1 - base)
        for rows in groups(p, k):
            w, y = weight[rows], labels[rows] == k
            if w.sum() > 0:
                share, mean = (
                    np.average(y, weights=w),
                    np.average(p[rows, k], weights=w),
                )
                deviation = p[rows, k] - mean
                reliability += w.sum() * (mean - share) ** 2
                resolution += w.sum() * (share - base) ** 2
                within += np.sum(w * (2 * deviation * (y - share) - deviation**2))
    total = weight.sum()
    return {
        "reliability": reliability / total,
        "resolution": (resolution + within) / total,
        "uncertainty": uncertainty,
    }


FORMS = {
    "(batch,)": lambda labels: labels,
    "(batch, 1)": lambda labels: labels[:, None].astype("uint8"),
    "one-hot": lambda labels: np.eye(CLASSES)[labels],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weighted", [False, True])
def test_against_brute_force(form, weighted, data):
    labels, logits, p, weight = data
    weight = weight if weighted else np.ones(ROWS)
    given = weight if weighted else None
    for from_logits, inputs in ((False, p), (True, logits)):
        options = {"bins": BINS, "from_logits": from_logits}
        ece = ClasswiseCalibrationError(CLASSES, **options)
        parts = BrierDecomposition(CLASSES, **options)
        for rows in np.array_split(np.arange(ROWS), [1, 70]):
            w = None if given is None else given[rows]
            for metric in (ece, parts):
                metric.update_state(FORMS[form](labels)[rows], inputs[rows], w)
        expected = brute_force_ece(labels, p, weight)
        np.testing.assert_allclose(ece.result(), expected, rtol=1e-5)
        expected = brute_force_decomposition(labels, p, weight)
        actual = {name: float(value) for name, value in parts.result().items()}
        assert actual == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_parts_sum_to_the_brier_score(data):
    labels, _, p, weight = data
    parts = BrierDecomposition(CLASSES, bins=BINS)(labels, p, weight)
    total = parts["reliability"] - parts["resolution"] + parts["uncertainty"]
    np.testing.assert_allclose(total, BrierScore()(labels, p, weight), rtol=1e-5)


def test_equal_forecasts_have_no_terms_within_bins(rng):
    """Murphy's decomposition: a calibrated forecast has reliability 0."""
    p = np.array([[0.25, 0.75]] * 4 + [[0.5, 0.5]] * 2)
    labels = np.array([0, 1, 1, 1, 0, 1])
    parts = BrierDecomposition(2)(labels, p)
    expected = {
        "reliability": 0,
        "resolution": 2 * (4 * (1 / 4 - 1 / 3) ** 2 + 2 * (1 / 2 - 1 / 3) ** 2) / 6,
        "uncertainty": 2 * (1 / 3) * (2 / 3),
    }
    actual = {name: float(value) for name, value in parts.items()}
    assert actual == pytest.approx(expected, abs=1e-6)


@NEW
def test_compiled(new, data):
    labels, logits, p, weight = data
    metric = new(CLASSES, BINS, from_logits=True)
    backends.compiled(metric.update_state, jit_compile=True)(labels, logits, weight)
    expected = new(CLASSES, BINS)
    expected.update_state(labels, p, weight)
    for actual, wanted in zip(metric.variables, expected.variables, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


@NEW
def test_no_examples_and_nan(new):
    for value in keras.tree.flatten(new(2).result()):
        assert float(value) == 0
    result = keras.tree.flatten(new(2)([0, 1], [[0.5, 0.5], [np.nan, np.nan]]))
    assert np.isnan(float(result[0]))


def test_evaluate_and_reload(data, tmp_path):
    labels, logits, p, _ = data
    layer = keras.layers.Dense(CLASSES, use_bias=False, kernel_initializer="identity")
    model = keras.Sequential([keras.Input((CLASSES,)), layer])
    options = {"bins": BINS, "from_logits": True}
    metrics = [
        ClasswiseCalibrationError(CLASSES, **options),
        BrierDecomposition(CLASSES, **options),
    ]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=metrics)
    model.save(tmp_path / "model.keras")
    ones = np.ones(ROWS)
    for each in (model, keras.models.load_model(tmp_path / "model.keras")):
        result = each.evaluate(logits, labels, verbose=0, return_dict=True)
        expected = brute_force_decomposition(labels, p, ones)
        expected["classwise_ece"] = brute_force_ece(labels, p, ones)
        assert {k: result[k] for k in expected} == pytest.approx(expected, rel=1e-4)


@NEW
def test_bad_arguments(new):
    for options in ({"classes": 1}, {"classes": 2, "bins": 0}):
        name, value = list(options.items())[-1]
        with pytest.raises(ValueError, match=rf"`{name}` .* Received: {name}={value}"):
            new(**options)
    with pytest.raises(ValueError, match=r"\(batch, 3\).* Received: y_pred.shape"):
        new(3)([0, 1], np.ones((2, 2)))
