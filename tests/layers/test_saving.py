"""Files, read in a fresh process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

import keras_variance as kv
from tests.layers.cases import CASES, ESTIMATORS, POSTERIORS


def run(script, *arguments):
    """Run a script in a fresh process."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def randomize(model, rng):
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))


# In the order of the imports: TensorFlow, Keras, the package
READ_EVERY = """
import json, pathlib, sys
import numpy as np, tensorflow as tf
folder = pathlib.Path(sys.argv[1])
for path in folder.glob("served-*"):
    served = tf.saved_model.load(path)
    x = tf.constant(np.load(folder / "x.npy"))
    np.save(f"{path}.npy", [served.serve(x), served.serve(x)])
assert "keras_variance" not in sys.modules

import keras
files = sorted(folder.glob("*.keras"))
try:
    keras.models.load_model(files[0])
except TypeError as error:
    message = str(error)
before = {name.partition(".")[0] for name in sys.modules}
import keras_variance
imported = {name.partition(".")[0] for name in sys.modules} - before
for path in files:
    model = keras.models.load_model(path)
    model(np.ones((2, *model.input_shape[1:])))
    np.savez(path.with_suffix(".npz"), *map(np.asarray, model.weights))
(folder / "report.json").write_text(json.dumps([message, list(imported)]))
"""


class Read(NamedTuple):
    """What a fresh process read."""

    folder: Path
    weights: dict  # of each model that was saved, by name
    without_import: str  # the error
    imported: list  # with the package, beside TensorFlow and Keras


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Every file of this module, in one process: it takes seconds to start."""
    rng, folder, weights = np.random.default_rng(0), tmp_path_factory.mktemp("read"), {}
    for name, case in CASES.items():
        for posterior in POSTERIORS:
            layer = case.layer(
                **case.arguments, posterior=posterior, prior="student_t", train_size=10
            )
            model = keras.Sequential([keras.Input(case.input_shape), layer])
            randomize(model, rng)
            model.save(folder / f"{name}-{posterior}.keras")
            weights[f"{name}-{posterior}"] = [*map(np.array, model.weights)]
    case = CASES["conv2d"]
    np.save(folder / "x.npy", np.ones((5, *case.input_shape), "float32"))
    for estimator in ESTIMATORS:
        layer = case.layer(
            **case.arguments, posterior="neuron_alpha", estimator=estimator
        )
        model = keras.Sequential([keras.Input(case.input_shape), layer])
        model.export(folder / f"served-{estimator}", verbose=False)
    result = run(READ_EVERY, folder)
    assert result.returncode == 0, result.stderr
    return Read(folder, weights, *json.loads((folder / "report.json").read_text()))


def test_keras_file_keeps_every_weight(read):
    for name, weights in read.weights.items():
        loaded = np.load(read.folder / f"{name}.npz").values()
        for weight, expected in zip(loaded, weights, strict=True):
            np.testing.assert_array_equal(weight, expected, err_msg=name)


def test_weights_of_another_posterior_are_refused(tmp_path):
    def model(posterior):
        return keras.Sequential(
            [keras.Input((4,)), kv.VarianceDense(3, posterior=posterior)]
        )

    path = tmp_path / "m.weights.h5"
    model("zero_mean").save_weights(path)
    with pytest.raises(ValueError, match="expected 3 variables"):
        model("layer_alpha").load_weights(path)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_saved_model_samples_anew_each_call(estimator, read):
    first, second = np.load(read.folder / f"served-{estimator}.npy")
    assert len(first) == 5 and np.all(np.isfinite(first))
    assert not np.any(first == second)


def test_loading_without_the_package_says_what_is_missing(read):
    assert "Could not locate class 'Variance" in read.without_import


def test_import_is_light(read):
    """Keras, TensorFlow and what they import; TFP and matplotlib load lazily."""
    assert read.imported == ["keras_variance"]
