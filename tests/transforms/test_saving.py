"""Transformed models are Keras models: saved, reloaded and exported."""

import keras
import numpy as np
import pytest

from keras_variance import VarianceDense
from keras_variance.transforms import (
    average,
    deep_ensemble,
    draw,
    ensemble,
    propagate_mean,
    propagate_moments,
    replace,
    zero_mean,
)
from tests import backends
from tests.layers.test_saving import run
from tests.transforms.models import WALKED, new

TRANSFORMS = {
    "ensemble": lambda model: ensemble(model, 4, seed=3),
    "propagate_mean": propagate_mean,
    "propagate_moments": propagate_moments,
    "zero_mean": zero_mean,
    "draw": draw,
    "replace": lambda model: replace(draw(model)),
}
DETERMINISTIC = ("propagate_mean", "propagate_moments", "draw")

# First TensorFlow alone, then Keras and the package
PREDICT_EVERY = """
import pathlib, sys
import numpy as np, tensorflow as tf
def predict_every(how, predict):
    for path in pathlib.Path(sys.argv[1]).iterdir():
        x = dict(np.load(path / "x.npz"))
        outputs = predict(path, x if len(x) > 1 else x["x"])
        np.savez(path / f"{how}.npz", *tf.nest.flatten(outputs))
def serve(path, x):
    served = tf.saved_model.load(path / "served")  # owns the variables
    return served.serve(x)
predict_every("serve", serve)
assert "keras_variance" not in sys.modules
import keras
import keras_variance
def reload(path, x):
    return keras.models.load_model(path / "m.keras", safe_mode=True)(x)
predict_every("reload", reload)
"""


@backends.tensorflow_only
def test_round_trips_in_a_fresh_process(tmp_path, rng):
    """Every transform's result, as a `.keras` file and as a SavedModel."""
    expected = {}
    for name in ("convolutional", "shared", "multiple"):
        for key, transform in TRANSFORMS.items():
            model, x = new(name, rng, posterior="layer_alpha")
            result = transform(model)
            path = tmp_path / f"{name}-{key}"
            path.mkdir()
            np.savez(path / "x.npz", **(x if isinstance(x, dict) else {"x": x}))
            result.save(path / "m.keras")
            result.export(path / "served", verbose=False)
            expected[path] = keras.tree.flatten(result(x))
    process = run(PREDICT_EVERY, tmp_path)
    assert process.returncode == 0, process.stderr
    for path, arrays in expected.items():
        for how in ("reload", "serve"):
            outputs = list(np.load(path / f"{how}.npz").values())
            assert [y.shape for y in outputs] == [y.shape for y in arrays]
            if path.name.endswith(DETERMINISTIC):
                for a, b in zip(outputs, arrays, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_reloaded_ensemble_has_the_sources_weights(tmp_path, rng):
    """A seeded ensemble draws after reloading what it draws at first."""
    model, x = new("stacked", rng, posterior="layer_alpha")
    result = ensemble(model, 4, seed=3)
    expected = result.predict(x, verbose=0)
    path = tmp_path / "m.keras"
    result.save(path)
    reloaded = keras.models.load_model(path)
    np.testing.assert_allclose(reloaded.predict(x, verbose=0), expected, rtol=1e-5)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", WALKED)
def test_compiles_with_xla(name, transform, rng):
    model, x = new(name, rng, posterior="layer_alpha")
    result = TRANSFORMS[transform](model)
    outputs = backends.compiled(result, jit_compile=True)(x)
    for each in keras.tree.flatten(outputs):
        assert np.all(np.isfinite(each))


def unregistered(y, p):
    return keras.losses.sparse_categorical_crossentropy(y, p)


def test_files_do_not_need_the_loss_of_the_source(tmp_path, rng):
    """As a source that is loaded with `compile=False` does not."""
    sources = []
    for _ in range(2):
        softmax = VarianceDense(3, "softmax", posterior="layer_alpha")
        sources.append(keras.Sequential([keras.Input((4,)), softmax]))
        sources[-1].compile("adam", unregistered)
    source = sources[0]
    x = rng.normal(size=(5, 4)).astype("float32")
    results = [
        average(source, 3, seed=0),
        propagate_moments(source),
        deep_ensemble(sources, samples=3, seed=0, moments=True),
    ]
    for result in results:
        result.save(tmp_path / "m.keras")
        loaded = keras.models.load_model(tmp_path / "m.keras", compile=False)
        for a, b in zip(
            keras.tree.flatten(loaded(x)), keras.tree.flatten(result(x)), strict=True
        ):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5)
