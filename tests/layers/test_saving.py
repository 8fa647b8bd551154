"""Files, read in a fresh process."""

import subprocess
import sys

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


LOAD_EVERY = """
import pathlib, sys
import keras, numpy as np
import keras_variance
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.keras")):
    model = keras.models.load_model(path)
    expected = np.load(path.with_suffix(".npz"))
    assert len(model.weights) == len(expected.files)
    for weight, name in zip(model.weights, expected.files):
        np.testing.assert_array_equal(weight, expected[name], err_msg=str(path))
    model.predict(np.ones((2, *model.input_shape[1:])), verbose=0)
    print(path.stem)
"""


def test_keras_file_keeps_every_weight(tmp_path, rng):
    names = []
    for name, case in CASES.items():
        for posterior in POSTERIORS:
            layer = case.layer(
                **case.arguments, posterior=posterior, prior="student_t", train_size=10
            )
            model = keras.Sequential([keras.Input(case.input_shape), layer])
            randomize(model, rng)
            path = tmp_path / f"{name}-{posterior}.keras"
            model.save(path)
            np.savez(path.with_suffix(".npz"), *map(np.asarray, model.weights))
            names.append(path.stem)
    result = run(LOAD_EVERY, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == sorted(names)


def test_weights_of_another_posterior_are_refused(tmp_path):
    def model(posterior):
        return keras.Sequential(
            [keras.Input((4,)), kv.VarianceDense(3, posterior=posterior)]
        )

    path = tmp_path / "m.weights.h5"
    model("zero_mean").save_weights(path)
    with pytest.raises(ValueError, match="expected 3 variables"):
        model("layer_alpha").load_weights(path)


SERVE = """
import sys
import numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
x = np.ones((5, *map(int, sys.argv[2:])), "float32")
first, second = served.serve(x).numpy(), served.serve(x).numpy()
assert first.shape[0] == 5 and np.all(np.isfinite(first))
assert not np.any(first == second)
assert "keras_variance" not in sys.modules
"""


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_saved_model_samples_anew_each_call(estimator, tmp_path):
    case = CASES["conv2d"]
    layer = case.layer(**case.arguments, posterior="neuron_alpha", estimator=estimator)
    model = keras.Sequential([keras.Input(case.input_shape), layer])
    model.export(tmp_path / "served", verbose=False)
    result = run(SERVE, tmp_path / "served", *case.input_shape)
    assert result.returncode == 0, result.stderr


LOAD_WITHOUT_IMPORT = """
import sys
import keras
keras.models.load_model(sys.argv[1])
"""


def test_loading_without_the_package_says_what_is_missing(tmp_path):
    model = keras.Sequential([keras.Input((4,)), kv.VarianceDense(3)])
    model.save(tmp_path / "m.keras")
    result = run(LOAD_WITHOUT_IMPORT, tmp_path / "m.keras")
    assert "TypeError: Could not locate class 'VarianceDense'" in result.stderr


IMPORT = """
import sys
import keras, tensorflow
before = {name.partition(".")[0] for name in sys.modules}
import keras_variance
print({name.partition(".")[0] for name in sys.modules} - before)
"""


def test_import_is_light():
    """Keras, TensorFlow and what they import; TFP and matplotlib load lazily."""
    assert run(IMPORT).stdout.strip() == "{'keras_variance'}"
