import csv

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.callbacks import mc_predict
from tests.backends import BACKEND
from tests.transforms.models import subclassed


def new(rng, **arguments):
    x = rng.normal(size=(200, 4)).astype("float32")
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(16, activation="relu"),
            kv.VarianceDense(16, **arguments),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    return model, x, y


def test_logs(rng, capsys, tmp_path):
    """Seen by History, the progress bar, and callbacks listed after it."""
    model, x, y = new(rng, posterior="layer_alpha")
    path = tmp_path / "log.csv"
    callbacks = [
        kv.callbacks.MCPredict(x, y, metrics=mc_predict.METRICS),
        keras.callbacks.CSVLogger(path),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", "val_ensemble_nll", mode="min", save_best_only=True
        ),
        keras.callbacks.EarlyStopping("val_ensemble_nll", mode="max", patience=1),
    ]
    history = model.fit(x, y, epochs=10, verbose=2, callbacks=callbacks).history
    names = {
        f"val_{predictor}_{metric}"
        for predictor in mc_predict.PREDICTORS
        for metric in mc_predict.METRICS
    }
    assert names <= set(history)
    # The likelihood gets better, so "max" stops at once
    assert len(history["val_ensemble_nll"]) == 2
    assert "val_zero_mean_accuracy" in capsys.readouterr().out
    with path.open() as file:
        assert names <= set(next(csv.reader(file)))
    assert (tmp_path / "best.keras").exists()


def test_values(rng):
    """Against the model's own predictions, for the deterministic predictor."""
    model, x, y = new(rng, posterior="layer_alpha")
    callback = kv.callbacks.MCPredict(x, y, predictors=["mean"])
    history = model.fit(x, y, epochs=2, verbose=0, callbacks=[callback]).history
    logits = kv.transforms.propagate_mean(model)(x)
    p = np.asarray(keras.ops.softmax(logits))
    expected = np.mean(p.argmax(axis=-1) == y)
    np.testing.assert_allclose(history["val_mean_accuracy"][-1], expected)
    expected = -np.mean(np.log(p[np.arange(len(y)), y]))
    np.testing.assert_allclose(history["val_mean_nll"][-1], expected, rtol=1e-5)


def test_predictors_of_a_variance_layer(rng):
    """The mean is constant; the sample is as good as without means."""
    model, x, y = new(rng)
    callback = kv.callbacks.MCPredict(x, y)
    logs = model.fit(x, y, 20, 20, verbose=0, callbacks=[callback]).history
    last = {name: values[-1] for name, values in logs.items()}
    assert last["val_mean_accuracy"] in np.bincount(y) / len(y)
    assert last["val_ensemble_accuracy"] > last["val_mean_accuracy"]
    difference = last["val_sample_accuracy"] - last["val_zero_mean_accuracy"]
    assert abs(difference) < 0.2
    assert last["val_ensemble_nll"] < last["val_sample_nll"]


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch compiles nothing")
def test_compiled_once(rng, monkeypatch):
    model, x, y = new(rng)
    traces = []
    call = mc_predict.Compared.call

    def counted(self, *args, **kwargs):
        traces.append(1)
        return call(self, *args, **kwargs)

    monkeypatch.setattr(mc_predict.Compared, "call", counted)
    callback = kv.callbacks.MCPredict(x, y, batch_size=100)
    model.fit(x, y, epochs=4, verbose=0, callbacks=[callback])
    assert len(traces) <= 2  # the shapes, and the function


def test_every(rng):
    model, x, y = new(rng)
    callback = kv.callbacks.MCPredict(x, y, every=2)
    history = model.fit(x, y, epochs=5, verbose=0, callbacks=[callback]).history
    assert len(history["loss"]) == 5
    assert len(history["val_ensemble_nll"]) == 2


def test_bad_input(rng):
    x, y = np.ones((4, 2)), np.ones(4)
    cases = {
        "predictors": ["median"],
        "metrics": "accuracy",
        "every": 0,
        "samples": 0,
    }
    for name, value in cases.items():
        with pytest.raises(ValueError, match=rf"`{name}`.*Received: {name}="):
            kv.callbacks.MCPredict(x, y, **{name: value})
    with pytest.raises(ValueError, match=r"Received: y with 3"):
        kv.callbacks.MCPredict(x, y[1:])
    callback = kv.callbacks.MCPredict(x, y)
    for model, match in (
        (keras.Sequential([keras.layers.Dense(3)]), "with variance layers"),
        (subclassed(), "subclassed"),
    ):
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match=match):
            model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0, callbacks=[callback])


def test_nan_is_no_metric(rng):
    """Not the accuracy and the calibration of the first class."""
    model, x, y = new(rng)
    model.layers[-1].bias.assign(np.full(3, np.nan))
    callback = kv.callbacks.MCPredict(x, y, metrics=mc_predict.METRICS)
    logs = {}
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_end(0, logs)
    assert len(logs) == 16 and np.isnan([*logs.values()]).all()
