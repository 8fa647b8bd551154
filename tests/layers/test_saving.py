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
from tests import backends
from tests.layers.cases import CASES, ESTIMATORS, EVERY, POSTERIORS
from tests.layers.old_files import make


def run(script, *arguments):
    """Run a script in a fresh process."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def randomize(model, rng):
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))


# In the order of the imports: TensorFlow if there is an export, Keras, the package
READ_EVERY = """
import json, pathlib, sys
import numpy as np
folder = pathlib.Path(sys.argv[1])
for path in folder.glob("served-*"):
    import tensorflow as tf
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
    for name, case in EVERY.items():
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
    for estimator in ESTIMATORS if backends.BACKEND == "tensorflow" else ():
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


SHAPES = {"layer_alpha": (1, 1), "neuron_alpha": (1, 3), "weight_alpha": (4, 3)}


def dense(posterior="additive", **arguments):
    layer = kv.VarianceDense(3, posterior=posterior, name="dense", **arguments)
    return keras.Sequential([keras.Input((4,)), layer])


@pytest.mark.parametrize("saved", POSTERIORS)
def test_weights_of_another_posterior_are_refused(saved, tmp_path, rng):
    """By a message with what the file has and what the layer has; nothing changes."""
    path, source = tmp_path / "m.weights.h5", dense(saved)
    randomize(source, rng)
    source.save_weights(path)

    def variables(posterior):
        phi = ""
        if posterior != "zero_mean":
            name = "log_variance" if posterior == "additive" else "log_alpha"
            phi = f", {name} {SHAPES.get(posterior, (4, 3))}"
        return f"bias (3,), kernel (4, 3){phi}"

    for posterior in POSTERIORS:
        model = dense(posterior)
        if posterior == saved:
            model.load_weights(path)
            for weight, other in zip(model.weights, source.weights, strict=True):
                np.testing.assert_array_equal(weight, other)
            continue
        before = [np.array(weight) for weight in model.weights]
        with pytest.raises(ValueError) as error:
            model.load_weights(path)
        for part in (
            "Layer 'dense' must have the variables that are loaded",
            f"it has {variables(posterior)}. ",
            f"Received: variables={variables(saved)}",
        ):
            assert part in str(error.value)
        for weight, old in zip(model.weights, before, strict=True):
            np.testing.assert_array_equal(weight, old)


def test_names_in_a_file(tmp_path):
    store = {}
    dense(prior="log_uniform", train_size=10, pruned=True).layers[0].save_own_variables(
        store
    )
    assert list(store) == ["kernel", "bias", "log_variance", "kl_weight", "mask"]


def test_variables_of_equal_names():
    """Of an own layer, which adds some."""

    class Own(kv.VarianceDense):
        def build(self, input_shape):
            super().build(input_shape)
            self.more = [self.add_weight(shape=(k,)) for k in (1, 2)]

    store, source, layer = {}, Own(3), Own(3)
    for each in (source, layer):
        each.build((None, 4))
    source.more[1].assign([5.0, 6.0])
    source.save_own_variables(store)
    assert len(store) == 4
    layer.load_own_variables(store)
    np.testing.assert_array_equal(layer.more[1], [5.0, 6.0])


@pytest.mark.parametrize("kernel_only", [True, False])
def test_a_prior_may_come_and_go(kernel_only, tmp_path, rng):
    """Where the weights fit: `kl_weight` keeps its value then."""
    path, prior = tmp_path / "m.weights.h5", {"prior": "log_uniform", "train_size": 10}
    more = {"use_bias": not kernel_only}
    source = dense(**more, **prior)
    randomize(source, rng)
    source.save_weights(path)
    model = dense(**more)
    model.load_weights(path)
    np.testing.assert_array_equal(model.layers[0].phi, source.layers[0].phi)
    model.save_weights(path)
    back = dense(**more, **prior, kl_weight=0.25)
    back.load_weights(path)
    np.testing.assert_array_equal(back.layers[0].phi, source.layers[0].phi)
    assert float(back.layers[0].kl_weight) == 0.25


def test_a_mask_is_not_lost(tmp_path):
    """Pruned weights would live again, or others be pruned without a word."""
    path = tmp_path / "m.weights.h5"
    for saved, loaded in ((True, False), (False, True)):
        dense(pruned=saved).save_weights(path)
        with pytest.raises(ValueError, match=r"mask \(4, 3\) of bool"):
            dense(pruned=loaded).load_weights(path)


def test_a_layer_that_is_not_built():
    store = {}
    dense().layers[0].save_own_variables(store)
    with pytest.raises(ValueError, match=r"which is not built.*it has none\..*kernel"):
        kv.VarianceDense(3).load_own_variables(store)


OLD = Path(__file__).parent / "old_files"


def filled(**arguments):
    model = make.model(**arguments)
    make.fill(model)
    return model


@pytest.mark.parametrize("name, pruned", [("first", False), ("by_position", True)])
def test_files_by_position(name, pruned):
    """Those that the package wrote at first: whole models, and with the priors gone."""
    path = OLD / f"{name}.keras"
    expected = filled(pruned=pruned).weights
    loaded = keras.models.load_model(path)
    anew = make.model(pruned=pruned)
    anew.load_weights(path)
    for model in (loaded, anew):
        for weight, other in zip(model.weights, expected, strict=True):
            np.testing.assert_array_equal(weight, other)
    without = make.model(pruned=pruned, prior=False)
    without.load_weights(path)
    others = [weight for weight in expected if weight.name != "kl_weight"]
    for weight, other in zip(without.weights, others, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_files_by_position_of_other_layers():
    """φ of another shape, and a mask that is no φ."""
    model = make.model(reversed(make.POSTERIORS), pruned=True)
    with pytest.raises(ValueError, match=r"Received: variables="):
        model.load_weights(OLD / "by_position.keras")
    store, layer = {}, dense("weight_alpha", use_bias=False).layers[0]
    keras.Layer.save_own_variables(
        dense("zero_mean", use_bias=False, pruned=True).layers[0], store
    )
    with pytest.raises(ValueError, match=r"log_alpha.*of bool"):
        layer.load_own_variables({k: np.asarray(v) for k, v in store.items()})


class Holder(keras.Model):
    """Saves its layer under the attribute's name, of whatever class it is."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.layer.build((None, 4))
        self.built = True


@pytest.mark.parametrize("prior", [None, "log_uniform"])
def test_weights_of_a_stock_layer(prior, tmp_path):
    """Kernel and bias become those of a layer without another variable."""
    path, stock = tmp_path / "m.weights.h5", keras.layers.Dense(3)
    Holder(stock).save_weights(path)
    layer = kv.VarianceDense(3, prior=prior, train_size=10)
    Holder(layer).load_weights(path)
    np.testing.assert_array_equal(layer.kernel, stock.kernel)
    store, other = {}, dense("additive", prior=prior, train_size=10).layers[0]
    stock.save_own_variables(store)
    with pytest.raises(ValueError, match=r"Received: variables=0 \(4, 3\), 1 \(3,\)"):
        other.load_own_variables(store)


@backends.tensorflow_only
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
