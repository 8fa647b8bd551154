import csv

import keras
import numpy as np
import pytest
from scipy import stats

import keras_variance as kv
from keras_variance.callbacks import mc_predict
from tests.backends import BACKEND
from tests.transforms.models import subclassed

CLASSES = kv.likelihoods.Classification.measures


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
        kv.callbacks.MCPredict(x, y, metrics=CLASSES),
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
        for metric in CLASSES
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
    callback = kv.callbacks.MCPredict(x, y, metrics=CLASSES)
    logs = {}
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_end(0, logs)
    assert len(logs) == 16 and np.isnan([*logs.values()]).all()


def regression(rng, loss=None, units=2):
    x = rng.normal(size=(100, 4)).astype("float32")
    y = (x @ [1, -1, 0, 2] + rng.normal(size=100)).astype("float32")
    dense = kv.VarianceDense(units, posterior="layer_alpha")
    hidden = [kv.VarianceDense(8, "relu", posterior="layer_alpha"), dense]
    model = keras.Sequential([keras.Input((4,)), *hidden])
    model.compile("adam", loss or kv.losses.GaussianNLL())
    return model, x, y


def test_numbers(rng):
    """RMSE of the means, and the NLL of the mixture."""
    model, x, y = regression(rng)
    callback = kv.callbacks.MCPredict(x, y, 200)
    logs = {}
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_end(0, logs)
    names = {f"val_{p}_{m}" for p in mc_predict.PREDICTORS for m in ("rmse", "nll")}
    assert set(logs) == names
    prediction = kv.mc_predict(model, x, 400, verbose=0)
    rmse = np.sqrt(np.mean((prediction.mean[:, 0] - y) ** 2))
    np.testing.assert_allclose(logs["val_ensemble_rmse"], rmse, rtol=0.1)
    nll = -np.mean(kv.log_likelihood(model, x, y, 400, verbose=0))
    np.testing.assert_allclose(logs["val_ensemble_nll"], nll, rtol=0.1)
    outputs = np.asarray(kv.transforms.propagate_mean(model)(x), "float64")
    density = stats.norm(outputs[:, 0], np.exp(outputs[:, 1] / 2)).logpdf(y)
    np.testing.assert_allclose(logs["val_mean_nll"], -np.mean(density), rtol=1e-4)
    error = outputs[:, 0] - y
    rmse = np.sqrt(np.mean(error**2))
    np.testing.assert_allclose(logs["val_mean_rmse"], rmse, rtol=1e-4)


def test_the_ensemble_of_numbers_is_a_mixture(rng):
    """Not one Gaussian around the mean, which would be far worse."""
    dense = kv.VarianceDense(1, posterior=kv.posteriors.Additive(0.0))
    model = keras.Sequential([keras.Input((4,)), dense])
    loss = kv.losses.GaussianNLL(scale=0.3)
    model.compile("adam", loss)
    x = rng.normal(size=(50, 4)).astype("float32")
    y = np.asarray(model(x))[:, 0]
    callback = kv.callbacks.MCPredict(x, y, 500, predictors=["ensemble"])
    logs = {}
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_end(0, logs)
    nll = -np.mean(kv.log_likelihood(model, x, y, 500, verbose=0))
    np.testing.assert_allclose(logs["val_ensemble_nll"], nll, rtol=0.1)
    p = kv.mc_predict(model, x, 500, verbose=0).mean
    assert -np.mean(loss.likelihood.log_likelihood(y, p)) > 3 * nll


@pytest.mark.parametrize("metric", ["accuracy", "ece", "brier"])
def test_metrics_of_classes_are_refused_for_numbers(metric, rng):
    model, x, y = regression(rng)
    callback = kv.callbacks.MCPredict(x, y, metrics=["nll", metric])
    message = rf"`metrics`.*\['nll', 'rmse'\].*Received: metrics=.*'{metric}'"
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, verbose=0, callbacks=[callback])


def test_numbers_and_classes(rng):
    """Each output has the metrics of what it is."""
    x = keras.Input((4,))
    h = kv.VarianceDense(6, "relu", posterior="layer_alpha")(x)
    kind = keras.layers.Dense(3, "softmax", name="kind")(h)
    size = kv.LearnedScale(name="size")(keras.layers.Dense(1)(h))
    model = keras.Model(x, [kind, size])
    model.compile("adam", ["sparse_categorical_crossentropy", kv.losses.GaussianNLL()])
    data = rng.normal(size=(20, 4)).astype("float32")
    y = [rng.integers(0, 3, 20), rng.normal(size=20)]
    callback = kv.callbacks.MCPredict(data, y, predictors=["ensemble"])
    logs = model.fit(data, y, verbose=0, callbacks=[callback]).history
    names = {name.removeprefix("val_ensemble_") for name in logs if "ensemble" in name}
    assert names == {"kind_accuracy", "kind_nll", "kind_ece", "size_rmse", "size_nll"}
    assert np.isfinite([logs[f"val_ensemble_{name}"] for name in names]).all()


def heavy_tails(df):
    """A model of numbers with heavy tails, and its data."""
    model = keras.Sequential([keras.Input((4,)), kv.VarianceDense(2)])
    model.compile("adam", kv.losses.StudentTNLL(df))
    return model, np.ones((8, 4)), np.ones(8)


@pytest.mark.parametrize("predictor", ["sample", "ensemble"])
def test_a_variance_that_does_not_exist(predictor):
    """It is refused before the model is trained, as `mc_predict` refuses it."""
    model, x, y = heavy_tails(df=2.0)
    before = model.get_weights()
    callback = kv.callbacks.MCPredict(x, y, predictors=[predictor])
    with pytest.raises(ValueError, match=r"`df` must be above 2 .*Received: df=2\.0"):
        model.fit(x, y, verbose=0, callbacks=[callback])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match=r"`df` must be above 2 .*Received: df=2\.0"):
        kv.mc_predict(model, x, verbose=0)


def test_a_variance_that_exists_or_is_not_asked_for():
    for df, predictors in ((2.5, mc_predict.PREDICTORS), (2.0, ["mean", "zero_mean"])):
        model, x, y = heavy_tails(df)
        callback = kv.callbacks.MCPredict(x, y, predictors=predictors)
        logs = model.fit(x, y, verbose=0, callbacks=[callback]).history
        names = {f"val_{each}_{x}" for each in predictors for x in ("rmse", "nll")}
        assert names < {*logs} and np.isfinite([logs[name] for name in names]).all()
