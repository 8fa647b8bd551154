"""Metrics, against brute force over rows and bins."""

import keras
import numpy as np
import pytest

from keras_variance.metrics import BrierScore, ExpectedCalibrationError
from tests import backends

ROWS, CLASSES, BINS = 200, 4, 7


def brute_force_ece(labels, y_pred, weight, bins):
    total = 0.0
    confidence = y_pred.max(axis=1)
    for b in range(bins):
        rows = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if weight[rows].sum() > 0:
            correct = y_pred[rows].argmax(axis=1) == labels[rows]
            accuracy = np.average(correct, weights=weight[rows])
            mean_confidence = np.average(confidence[rows], weights=weight[rows])
            total += weight[rows].sum() * abs(accuracy - mean_confidence)
    return total / weight.sum()


def brute_force_brier(labels, y_pred, weight, bins):
    rows = [
        sum((p - (k == label)) ** 2 for k, p in enumerate(row))
        for label, row in zip(labels, y_pred, strict=True)
    ]
    return np.average(rows, weights=weight)


CASES = {
    "ece": (lambda **kwargs: ExpectedCalibrationError(BINS, **kwargs), brute_force_ece),
    "brier": (BrierScore, brute_force_brier),
}
METRICS = pytest.mark.parametrize("new, reference", CASES.values(), ids=CASES)


@pytest.fixture
def data(rng):
    """Labels, logits, probabilities and weights, some of them 0."""
    logits = rng.normal(size=(2 * ROWS, CLASSES), scale=2).clip(-8, 8)
    logits = (np.round(logits * 16) / 16).astype("float32")  # exact in half precision
    exp = np.exp(logits.astype("float64"))
    y_pred = exp / exp.sum(axis=1, keepdims=True)
    # Not so near to an edge that rounding decides on the bin
    inside = np.abs(y_pred.max(axis=1) * BINS % 1 - 0.5) < 0.4999
    weight = rng.uniform(size=ROWS) * rng.integers(0, 2, ROWS)
    labels = rng.integers(0, CLASSES, ROWS)
    return labels, logits[inside][:ROWS], y_pred[inside][:ROWS], weight


FORMS = {
    "(batch,)": lambda labels: labels,
    "(batch, 1)": lambda labels: labels[:, None].astype("uint8"),
    "one-hot": lambda labels: np.eye(CLASSES)[labels],
}


@METRICS
@pytest.mark.parametrize("form", FORMS)
def test_against_brute_force(new, reference, form, data):
    labels, logits, y_pred, weight = data
    y_true = FORMS[form](labels)
    for sample_weight in (None, weight):
        rows = np.ones(ROWS) if sample_weight is None else sample_weight
        expected = reference(labels, y_pred, rows, BINS)
        for from_logits, inputs in ((False, y_pred), (True, logits)):
            value = new(from_logits=from_logits)(y_true, inputs, sample_weight)
            assert value.shape == ()
            np.testing.assert_allclose(value, expected, rtol=1e-5)


@METRICS
def test_batches_equal_the_whole(new, reference, data):
    labels, _, y_pred, weight = data
    expected = reference(labels, y_pred, weight, BINS)
    metric = new()
    for shape in (-1,), (-1, 1):  # of the weights
        metric.reset_state()
        assert float(metric.result()) == 0  # of no rows
        for rows in np.array_split(np.arange(ROWS), [1, 70, 150]):
            metric.update_state(labels[rows], y_pred[rows], weight[rows].reshape(shape))
        np.testing.assert_allclose(metric.result(), expected, rtol=1e-5)


@METRICS
def test_one_weight_for_all(new, reference, data):
    labels, _, y_pred, _ = data
    expected = reference(labels, y_pred, np.ones(ROWS), BINS)
    np.testing.assert_allclose(new()(labels, y_pred, 3.0), expected, rtol=1e-5)


@METRICS
def test_compiled_by_xla(new, reference, data):
    labels, logits, y_pred, weight = data
    metric = new(from_logits=True)
    backends.compiled(metric.update_state, jit_compile=True)(labels, logits, weight)
    expected = reference(labels, y_pred, weight, BINS)
    np.testing.assert_allclose(metric.result(), expected, rtol=1e-5)


@METRICS
@pytest.mark.parametrize("jit_compile", [None, False, True])
@pytest.mark.parametrize(
    "y_pred",
    [
        [[np.nan, np.nan]] * 2,  # all of them: once a perfect ECE of 0
        [[0.25, 0.75], [np.nan, np.nan]],
        [[0.25, 0.75], [0.5, np.nan]],
    ],
)
def test_a_prediction_that_is_nan_shows(new, reference, y_pred, jit_compile):
    metric = new()
    update = metric.update_state
    if jit_compile is not None:
        update = backends.compiled(update, jit_compile)
    update(np.array([0, 1]), np.array(y_pred))
    assert np.isnan(float(metric.result()))


def test_early_stopping_does_not_prefer_a_broken_model(data):
    labels, logits, _, _ = data
    model = new_model()
    stop = keras.callbacks.EarlyStopping("val_ece", restore_best_weights=True)
    broken = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: (
            epoch and model.layers[0].kernel.assign(np.full((CLASSES, CLASSES), np.nan))
        )
    )
    options = {"validation_data": (logits, labels), "verbose": 0, "epochs": 2}
    model.fit(logits, labels, callbacks=[broken, stop], **options)
    assert stop.best_epoch == 0


def test_edges_of_bins():
    """Bins are closed on the right; 0 (of no distribution) is in the first."""
    ece = ExpectedCalibrationError(bins=4)
    edges = np.array([0, 0.25, 0.5, 0.75, 1])
    above = np.array([0.26, 0.51, 0.76, 1 + 1e-6])
    for confidence in (edges, above):
        y_pred = np.stack([confidence, np.zeros_like(confidence)], axis=1)
        ece.update_state(np.zeros(len(confidence)), y_pred)
    np.testing.assert_array_equal(ece.weight, [2, 2, 2, 3])
    np.testing.assert_allclose(ece.confidence, [0.25, 0.76, 1.26, 2.76], rtol=1e-5)


def test_accuracy_of_unknown_and_soft_labels():
    """A label that is no class is never right; a soft one in part."""
    y_pred = [[1.0, 0.0]]
    assert float(ExpectedCalibrationError()([-1], y_pred)) == 1
    assert float(ExpectedCalibrationError()([2], y_pred)) == 1
    assert float(ExpectedCalibrationError()([[0.75, 0.25]], y_pred)) == 0.25


@pytest.mark.parametrize(
    "metric",
    [
        ExpectedCalibrationError(np.int64(3), True, name="a", dtype="float64"),
        BrierScore(True, name="a", dtype="float64"),
    ],
    ids=CASES,
)
def test_config(metric):
    config = keras.saving.serialize_keras_object(metric)
    assert config["registered_name"] == f"keras_variance>{type(metric).__name__}"
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == metric.get_config()
    assert copy.name == "a" and copy.dtype == "float64" and copy.from_logits
    assert getattr(copy, "bins", 3) == 3


def new_model(**arguments):
    identity = keras.layers.Dense(
        CLASSES, use_bias=False, kernel_initializer="identity"
    )
    model = keras.Sequential([keras.Input((CLASSES,)), identity])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = [ExpectedCalibrationError(BINS, from_logits=True)]
    weighted = [BrierScore(from_logits=True)]
    optimizer = keras.optimizers.SGD(0.0)
    model.compile(
        optimizer, loss, metrics=metrics, weighted_metrics=weighted, **arguments
    )
    return model


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=backends.xla_only)]
)
def test_evaluate(jit_compile, data, tmp_path):
    labels, logits, y_pred, weight = data
    model = new_model(jit_compile=jit_compile)
    model.save(tmp_path / "model.keras")
    for each in (model, keras.models.load_model(tmp_path / "model.keras")):
        result = each.evaluate(
            logits, labels, 32, sample_weight=weight, verbose=0, return_dict=True
        )
        ece = brute_force_ece(labels, y_pred, np.ones(ROWS), BINS)
        brier = brute_force_brier(labels, y_pred, weight, BINS)
        np.testing.assert_allclose(result["ece"], ece, rtol=1e-5)
        np.testing.assert_allclose(result["brier"], brier, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_policies_compute_in_float32(policy, data):
    labels, logits, y_pred, _ = data
    keras.config.set_dtype_policy(policy)
    model = new_model()
    outputs = model(logits)
    assert backends.dtype(outputs) == policy.removeprefix("mixed_")
    np.testing.assert_array_equal(np.asarray(outputs, "float32"), logits)
    result = model.evaluate(logits, labels, verbose=0, return_dict=True)
    for name, (_, reference) in CASES.items():
        expected = reference(labels, y_pred, np.ones(ROWS), BINS)
        np.testing.assert_allclose(result[name], expected, rtol=1e-5)


def test_early_stopping_knows_that_less_is_better(data):
    labels, logits, _, weight = data
    stops = [keras.callbacks.EarlyStopping(f"val_{name}", patience=9) for name in CASES]
    validation_data = (logits, labels, weight)
    new_model().fit(
        logits, labels, validation_data=validation_data, callbacks=stops, verbose=0
    )
    assert [stop.monitor_op for stop in stops] == [keras.ops.less] * 2


def test_bad_bins():
    for bins in (0, -1, 2.5, 15.0, np.nan, "15", None, True):
        match = rf"^Argument `bins` must be an integer ≥ 1. Received: bins={bins!r}$"
        with pytest.raises(ValueError, match=match):
            ExpectedCalibrationError(bins=bins)


@METRICS
def test_bad_shapes(new, reference):
    for shape in ((), (3,), (3, 1), (3, 2, 2)):
        with pytest.raises(ValueError) as error:
            new()(np.zeros(3), np.ones(shape))
        message = str(error.value)
        assert message.startswith("Argument `y_pred` must have shape (batch, classes)")
        assert message.endswith(f"Received: y_pred.shape={shape}")
    for shape in ((), (3, 2), (3, 1, 1), (3, 4, 1)):
        with pytest.raises(ValueError) as error:
            new()(np.zeros(shape), np.ones((3, 4)))
        message = str(error.value)
        assert message.startswith("Argument `y_true` must have shape (batch,)")
        assert message.endswith(f"Received: y_true.shape={shape}")
