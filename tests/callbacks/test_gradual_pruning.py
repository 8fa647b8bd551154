import keras
import numpy as np
import pytest

import keras_variance as kv


class Sparsities(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(kv.sparsity(self.model))


def test_schedule():
    """The cubic of Zhu & Gupta."""
    callback = kv.callbacks.GradualPruning(0.8, begin=1, end=3, initial_sparsity=0.2)
    assert callback.sparsity_at(0) == callback.sparsity_at(1) == pytest.approx(0.2)
    assert callback.sparsity_at(2) == pytest.approx(0.8 - 0.6 / 8)
    assert callback.sparsity_at(3) == callback.sparsity_at(9) == pytest.approx(0.8)


def test_in_training(rng):
    model = keras.Sequential([keras.Input((8,)), kv.VarianceDense(25)])
    model.compile("adam", "mse")
    x, y = rng.normal(size=(80, 8)), rng.normal(size=(80, 25))
    model.fit(x, y, verbose=0)  # traced without a mask
    pruning = kv.callbacks.GradualPruning(0.9, begin=0.5, end=2, frequency=2)
    values = Sparsities()
    model.fit(x, y, 8, epochs=3, verbose=0, callbacks=[pruning, values])
    assert np.all(np.diff(values.values) >= 0)
    assert len(set(values.values)) == 8  # rising more slowly to the end
    assert values.values[3] == 0 and values.values[-1] == pytest.approx(0.9)
    due = pruning.sparsity_at(1)
    assert values.values[9] == pytest.approx(due, abs=0.005)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"sparsity": 1.0}, "Received: sparsity=1.0"),
        ({"sparsity": 0.5, "initial_sparsity": 0.6}, "initial_sparsity=0.6"),
        ({"sparsity": 0.5, "begin": 2, "end": 2}, "`end`.*Received: end=2"),
        ({"sparsity": 0.5, "begin": -1}, "`begin`.*Received: begin=-1"),
        ({"sparsity": 0.5, "frequency": 0}, "`frequency`.*Received: frequency=0"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        kv.callbacks.GradualPruning(**arguments)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras has no several steps there"
)
@pytest.mark.parametrize("steps", [1, 4, 32])
def test_several_steps_per_execution(steps):
    """Pruned as soon as the batches between two prunings have passed."""
    x, y = np.ones((33, 4), "float32"), np.ones((33, 100))
    model = keras.Sequential([keras.Input((4,)), kv.VarianceDense(100)])
    model.compile("sgd", "mse", steps_per_execution=steps)
    gradual = kv.callbacks.GradualPruning(0.9, end=1, frequency=5)
    seen = Sparsities()
    model.fit(x, y, batch_size=1, verbose=0, callbacks=[gradual, seen])
    ends = [min(k, 33) for k in range(steps, 33 + steps, steps)]
    turns = [0, *ends]
    for before, end, value in zip(turns[:-1], ends, seen.values, strict=True):
        if end // 5 > before // 5:
            assert value == pytest.approx(gradual.sparsity_at(end / 33), abs=0.01)
