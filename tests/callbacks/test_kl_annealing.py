"""KL annealing, batch by batch."""

import itertools

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.callbacks.kl_annealing import KLAnnealing
from tests import backends

ROWS, STEPS = 12, 3
X, Y = np.ones((ROWS, 2), "float32"), np.ones((ROWS, 1), "float32")
PRIOR = {"posterior": "weight_alpha", "prior": "log_uniform", "train_size": ROWS}


def new_model(*, inputs=True, **arguments):
    """A nested model, in which two of three variance layers have a prior."""
    block = keras.Sequential([kv.VarianceDense(3), kv.VarianceDense(2, **PRIOR)])
    layers = [block, kv.VarianceDense(1, **PRIOR)]
    model = keras.Sequential([keras.Input((2,)), *layers] if inputs else layers)
    model.compile("sgd", "mse", **arguments)
    return model


def kl_weights(model):
    layers = kv.layers.variance_layers(model)
    weights = [layer.kl_weight for layer in layers if layer.prior]
    return [float(weight.numpy()) for weight in weights]


class Record(keras.callbacks.Callback):
    """What the layers' `kl_weight` is in every batch."""

    def on_train_begin(self, logs=None):
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        first, second = kl_weights(self.model)
        assert first == second
        self.values.append(first)


def fit(model, annealing, data=(X, Y), **arguments):
    """Values batch by batch, and values in the history."""
    record = Record()
    history = model.fit(
        *data,
        batch_size=ROWS // STEPS if len(data) == 2 else None,
        callbacks=[annealing, record],
        shuffle=False,
        verbose=0,
        **arguments,
    )
    return record.values, history.history["kl_weight"]


RAMPS = {
    "default": ({"epochs": 2}, [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1]),
    "start": ({"epochs": 1, "start": 1}, [0, 0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1]),
    "range": (
        {"epochs": 3, "initial": 1, "final": 10},
        [1, 2, 3, 4, 5, 6, 7, 8, 9],
    ),
    "down": (
        {"epochs": 3, "initial": 9, "final": 0},
        [9, 8, 7, 6, 5, 4, 3, 2, 1],
    ),
    "fractions": (
        {"epochs": 1.5, "start": 0.5},
        [0, 0, 1 / 9, 3 / 9, 5 / 9, 7 / 9, 1, 1, 1],
    ),
}


@pytest.mark.parametrize("ramp, expected", RAMPS.values(), ids=RAMPS)
def test_every_batch(ramp, expected):
    model = new_model()
    values, history = fit(model, KLAnnealing(**ramp), epochs=3)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    # An epoch ends with what the next begins with.
    np.testing.assert_allclose(history[:-1], expected[STEPS::STEPS], rtol=1e-6)
    np.testing.assert_allclose(history[-1], kl_weights(model)[0], rtol=1e-6)


def test_the_end_is_reached():
    model = new_model()
    _, history = fit(model, KLAnnealing(2, 0.1, 0.3), epochs=2)
    assert history == [0.2, 0.3]
    assert kl_weights(model) == [np.float32(0.3)] * 2


def test_resume():
    """The same callback or a new one, the same values."""
    annealing = KLAnnealing(4)
    for again in (annealing, KLAnnealing(4)):
        model = new_model()
        first, _ = fit(model, annealing, epochs=2)
        second, history = fit(model, again, initial_epoch=2, epochs=5)
        whole = np.minimum(np.arange(5 * STEPS) / (4 * STEPS), 1)
        np.testing.assert_allclose(first + second, whole, rtol=1e-6)
        assert history == [0.75, 1, 1]


def test_model_without_input():
    values, _ = fit(new_model(inputs=False), KLAnnealing(1), epochs=1)
    np.testing.assert_allclose(values, [0, 1 / 3, 2 / 3], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@backends.tensorflow_only
def test_unknown_steps():
    """The first epoch counts them."""
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices((X, Y)).batch(ROWS // STEPS)
    unknown = rows.filter(lambda x, y: True)
    expected = [0, 0, 0, 3 / 9, 4 / 9, 5 / 9, 6 / 9, 7 / 9, 8 / 9]
    annealing = KLAnnealing(3)
    for _ in range(2):  # the count is no longer known in another `fit`
        values, history = fit(new_model(), annealing, (unknown,), epochs=3)
        assert annealing.params["steps"] is None
        np.testing.assert_allclose(values, expected, rtol=1e-6)
        np.testing.assert_allclose(history, [1 / 3, 2 / 3, 1], rtol=1e-6)
    values, _ = fit(
        new_model(), annealing, (unknown.repeat(),), steps_per_epoch=STEPS, epochs=1
    )
    np.testing.assert_allclose(values, np.arange(STEPS) / 9, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@backends.tensorflow_only
def test_unknown_steps_without_a_callback_that_waits():
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).filter(lambda *_: True)
    annealing, model = KLAnnealing(3), new_model()
    model.fit(rows, epochs=2, callbacks=[annealing], shuffle=False, verbose=0)
    assert annealing.steps == STEPS


@pytest.mark.skipif(backends.BACKEND == "torch", reason="Keras has it not there")
def test_several_steps_an_execution():
    model = new_model(steps_per_execution=2)
    values, history = fit(model, KLAnnealing(2), epochs=2)
    np.testing.assert_allclose(values, [0, 2 / 6, 3 / 6, 5 / 6], rtol=1e-6)
    assert history == [0.5, 1]


def test_mirrored_strategy(strategy):
    with strategy.scope():
        model = new_model()
    values, _ = fit(model, KLAnnealing(1, final=0.5), epochs=1)
    np.testing.assert_allclose(values, [0, 1 / 6, 2 / 6], rtol=1e-6)
    replicas = model.layers[-1].kl_weight.value.values
    assert [float(value) for value in replicas] == [0.5, 0.5]


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=backends.xla_only)]
)
def test_the_compiled_step_uses_the_value(jit_compile):
    """Without a data loss, and with nothing learned, the loss is the KL's term."""
    layer = kv.VarianceDense(1, **PRIOR)
    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile(
        keras.optimizers.SGD(0.0),
        loss=lambda y, outputs: 0.0 * outputs,
        jit_compile=jit_compile,
    )
    # Keras's loss is the mean since the epoch began: a batch an epoch
    history = model.fit(
        X, Y, ROWS, epochs=4, callbacks=[KLAnnealing(4, start=1)], verbose=0
    )
    losses = np.array(history.history["loss"])
    scale = np.asarray(layer.kl_divergence()) / ROWS
    assert scale > 0.01
    np.testing.assert_allclose(losses / scale, [0, 0, 0.25, 0.5], rtol=1e-5)
    # Three batches an epoch: the mean of 0, 1/3 and 2/3
    history = model.fit(X, Y, ROWS // STEPS, callbacks=[KLAnnealing(1)], verbose=0)
    np.testing.assert_allclose(history.history["loss"][0] / scale, 1 / 3, rtol=1e-5)


def test_no_prior():
    model = keras.Sequential([keras.Input((2,)), kv.VarianceDense(1)])
    model.compile("sgd", "mse")
    match = r"layer that has a `prior`\. Received: model=<Sequential name=.*>$"
    with pytest.raises(ValueError, match=match):
        model.fit(X, Y, callbacks=[KLAnnealing(1)], verbose=0)


def test_bad_arguments():
    bad = {"> 0": ["epochs"], "≥ 0": ["initial", "final", "start"]}
    for bound, names in bad.items():
        for name, value in itertools.product(names, [-1, np.nan, "2", None]):
            match = (
                rf"`{name}` must be a finite number {bound}. "
                rf"Received: {name}={value!r}$"
            )
            with pytest.raises(ValueError, match=match):
                KLAnnealing(**{"epochs": 1, name: value})
    with pytest.raises(ValueError, match=r"Received: epochs=0$"):
        KLAnnealing(0)
