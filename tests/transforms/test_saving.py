"""Transformed models are Keras models: saved, reloaded and exported."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_variance.transforms import (
    draw,
    ensemble,
    from_deterministic,
    propagate_mean,
    propagate_moments,
    zero_mean,
)
from tests.layers.test_saving import run
from tests.transforms.models import WALKED, new

TRANSFORMS = {
    "ensemble": lambda model: ensemble(model, 4, seed=3),
    "propagate_mean": propagate_mean,
    "propagate_moments": propagate_moments,
    "zero_mean": zero_mean,
    "draw": draw,
    "from_deterministic": lambda model: from_deterministic(draw(model)),
}
DETERMINISTIC = ("propagate_mean", "propagate_moments", "draw")

PREDICT_EVERY = """
import pathlib, sys
import numpy as np, tensorflow as tf
how = sys.argv[2]
if how == "reload":
    import keras
    import keras_variance
for path in pathlib.Path(sys.argv[1]).iterdir():
    file = np.load(path / "x.npz")
    x = {name: file[name] for name in file.files}
    x = x if len(x) > 1 else x["x"]
    if how == "reload":
        model = keras.models.load_model(path / "m.keras", safe_mode=True)
        outputs = keras.tree.flatten(model.predict(x, verbose=0))
    else:
        served = tf.saved_model.load(path / "served")
        outputs = tf.nest.flatten(served.serve(x))
    np.savez(path / f"{how}.npz", *outputs)
assert how == "reload" or "keras_variance" not in sys.modules
"""


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
            expected[path] = keras.tree.flatten(result.predict(x, verbose=0))
    for how in ("reload", "serve"):
        process = run(PREDICT_EVERY, tmp_path, how)
        assert process.returncode == 0, process.stderr
        for path, arrays in expected.items():
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
    call = tf.function(result, jit_compile=True)
    outputs = call(keras.tree.map_structure(tf.constant, x))
    for each in keras.tree.flatten(outputs):
        assert np.all(np.isfinite(each))
