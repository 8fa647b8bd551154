"""An exported model, as a server's loader and a process without Keras see it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_variance as kv
from keras_variance.serving.interface import Interface
from tests.serving.models import MODELS, STATISTICS, data, multiple, sequential
from tests.statistics import assert_same_moments

HERE = Path(__file__).parent
SAMPLES = 6
layers = keras.layers


def run(*command):
    command = list(map(str, command))
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def equal(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


# What is exported for the processes without Keras: a model, and arguments of `export`
EXPORTS = {
    "sequential": (sequential, {"samples": 2000}),
    "multiple": (multiple, {"samples": 2000}),
    "fresh": (sequential, {"samples": SAMPLES}),
    "frozen": (sequential, {"samples": SAMPLES, "frozen": True}),
    "seeded": (sequential, {"samples": SAMPLES, "frozen": True, "seed": 1}),
}


class Exported(NamedTuple):
    model: keras.Model
    x: dict
    answers: list  # of each process: {endpoint: [outputs of two calls]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """All of `EXPORTS`, asked in two fresh processes, which take seconds to start."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    folder, result = tmp_path_factory.mktemp("exported"), {}
    for name, (new, arguments) in EXPORTS.items():
        model = new()
        x = data(model, rng)
        result[name] = Exported(model, x, [])
        version = kv.export(model, folder / name / "model", **arguments)
        assert version == folder / name / "model" / "1"
        np.savez(folder / name / "x.npz", **x)
    for process in range(2):
        outputs = folder / f"{process}.npz"
        paths = (folder / name for name in EXPORTS)
        run(sys.executable, HERE / "query.py", outputs, *paths)
        for each in result.values():
            each.answers.append({})
        for key, value in np.load(outputs).items():
            name, endpoint, call, output = key.split("/")
            answers = result[name].answers[process]
            answers.setdefault(endpoint, [{}, {}])[int(call)][output] = value
    return result


@pytest.mark.parametrize("name", MODELS)
def test_endpoints_equal_the_predictions(name, exported):
    """Moments exactly; samples in distribution, and statistics as of the samples."""
    model, x, (answers, _) = exported[name]
    samples = answers["samples"][0]
    x = x if name == "multiple" else x["x"]
    sampled = kv.mc_predict(model, x, 2000, return_samples=True, verbose=0)
    moments = kv.moment_predict(model, x, verbose=0)
    prefixes = [""] if name == "sequential" else ["label_", "size_"]
    pairs = zip(
        prefixes,
        [sampled] if len(prefixes) == 1 else sampled,
        [moments] if len(prefixes) == 1 else moments,
        strict=True,
    )
    for prefix, expected, exact in pairs:
        drawn = samples[f"{prefix}samples"]
        assert_same_moments(drawn.swapaxes(0, 1), expected.samples.swapaxes(0, 1))
        for key in STATISTICS:
            served = answers["moments"][0].get(prefix + key)
            if getattr(exact, key) is None:
                assert served is None
                continue
            np.testing.assert_allclose(served, getattr(exact, key), atol=1e-6)
        average = answers["serving_default"][0][f"{prefix}mean"]
        spread = np.sqrt(expected.variance / 2000)
        assert (abs(average - expected.mean) < 8 * spread + 1e-6).all()
    keys = {f"{prefixes[0]}{key}" for key in STATISTICS}
    assert keys <= set(answers["serving_default"][0])


def test_statistics_are_those_of_the_samples(exported):
    """Frozen: both endpoints see the same samples."""
    model, x, (answers, _) = exported["seeded"]
    samples = answers["samples"][0]["samples"]
    members = [
        kv.transforms.draw(model, kv.random.derive(1, k))(x["x"])
        for k in range(SAMPLES)
    ]
    np.testing.assert_allclose(samples, np.stack(members, axis=1), atol=1e-6)
    served = answers["serving_default"][0]
    mean = samples.mean(axis=1)
    np.testing.assert_allclose(served["mean"], mean, atol=1e-6)
    np.testing.assert_allclose(served["variance"], samples.var(axis=1), atol=1e-6)
    entropy = -(mean * np.log(mean)).sum(axis=-1)
    np.testing.assert_allclose(served["entropy"], entropy, atol=1e-5)
    expected = -(samples * np.log(samples)).sum(axis=-1).mean(axis=1)
    information = served["mutual_information"]
    np.testing.assert_allclose(information, entropy - expected, atol=1e-5)


def test_noise_across_processes(exported):
    first, second = exported["fresh"].answers
    calls = [*first["serving_default"], *second["serving_default"]]
    for i in range(4):
        for j in range(i):
            assert (calls[i]["mean"] != calls[j]["mean"]).any()
    for endpoint in ("serving_seeded", "moments"):
        calls = [*first[endpoint], *second[endpoint]]
        assert all(equal(calls[0], each) for each in calls)
    same = exported["frozen"].answers
    calls = [call for each in same for call in each["serving_default"]]
    assert all(equal(calls[0], each) for each in calls)


def test_layers_have_noise_of_their_own(tmp_path):
    x = keras.Input((4,), name="x")
    first, second = kv.VarianceDense(3), kv.VarianceDense(3)
    model = keras.Model(x, layers.Subtract()([first(x), second(x)]))
    second.kernel.assign(first.kernel)
    served = tf.saved_model.load(kv.export(model, tmp_path, SAMPLES)).signatures
    assert (served["samples"](x=tf.ones((2, 4)))["samples"] != 0).numpy().all()


def test_rows_do_not_depend_on_their_batch(rng, tmp_path):
    """With the same seed, and frozen: a server may batch as it likes."""
    model = sequential()
    x = data(model, rng, rows=5)["x"]
    served = tf.saved_model.load(kv.export(model, tmp_path, SAMPLES, frozen=True))
    seed = tf.constant(3, tf.int64)
    for name, more in (("serving_default", {}), ("serving_seeded", {"seed": seed})):
        function = served.signatures[name]
        whole = function(x=tf.constant(x), **more)["mean"]
        part = function(x=tf.constant(x[3:]), **more)["mean"]
        np.testing.assert_allclose(part, whole[3:], atol=1e-6)
    other = served.signatures["serving_seeded"](x=tf.constant(x), seed=seed + 1)
    assert (other["mean"] != whole).numpy().any()


def test_command_line(tmp_path):
    model = sequential()
    folder = kv.export(model, tmp_path / "m")
    tool = Path(sys.executable).with_name("saved_model_cli")
    np.save(tmp_path / "x.npy", np.ones((2, 4), "float32"))
    x = f"x={tmp_path / 'x.npy'}"
    options = ["--tag_set", "serve", "--signature_def", "moments", "--inputs", x]
    run(tool, "run", "--dir", folder, *options, "--outdir", tmp_path)
    served = np.load(tmp_path / "mean.npy")
    expected = kv.moment_predict(model, np.ones((2, 4)), verbose=0).mean
    np.testing.assert_allclose(served, expected, atol=1e-6)


def operations(folder, signature):
    """Names of the graph's tensors: {input: name}, {output: name}."""
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((folder / "saved_model.pb").read_bytes())
    found = proto.meta_graphs[0].signature_def[signature]
    return (
        {key: value.name for key, value in each.items()}
        for each in (found.inputs, found.outputs)
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """The compiled C program."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    package = Path(tf.__file__).parent
    program = tmp_path_factory.mktemp("client") / "client"
    libraries = sorted(package.glob("libtensorflow*.so*"))
    flags = [f"-I{package / 'include'}", f"-Wl,-rpath,{package}", "-pthread", "-lm"]
    run(compiler, HERE / "client.c", "-o", program, *libraries, *flags)
    return program


def test_threads_without_python(client, tmp_path):
    folder = kv.export(sequential(), tmp_path / "m")
    inputs, outputs = operations(folder, "serving_default")
    name, index = outputs["mean"].split(":")
    x = inputs["x"].split(":")[0]
    answers = run(client, folder, 8, 200, 2, 4, x, name, index).splitlines()
    assert len(answers) == len(set(answers)) == 1600
    inputs, outputs = operations(folder, "serving_seeded")
    name, index = outputs["mean"].split(":")
    x, seed = (inputs[key].split(":")[0] for key in ("x", "seed"))
    answers = run(client, folder, 4, 20, 2, 4, x, name, index, seed, 5).splitlines()
    assert len(answers) == 80 and len(set(answers)) == 1


def test_warm_up(rng, tmp_path):
    """The requests, parsed back and replayed."""
    from tensorflow_serving.apis import prediction_log_pb2

    model = sequential()
    x = data(model, rng)["x"]
    folder = kv.export(model, tmp_path, SAMPLES, warmup=x)
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    served = tf.saved_model.load(folder).signatures
    seen = []
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        inputs = {
            key: tf.constant(tf.make_ndarray(proto))
            for key, proto in request.inputs.items()
        }
        np.testing.assert_array_equal(inputs["x"], x)
        signature = request.model_spec.signature_name
        for value in served[signature](**inputs).values():
            assert np.isfinite(value).all() and len(value) == len(x)
        seen.append(signature)
    assert set(seen) == set(served)


def test_rows_for_several_inputs():
    """In the model's own structure, in a list, or by the inputs' names."""
    one, two = np.zeros((2, 1)), np.ones((2, 2))

    def interface(structure):
        inputs = {key: keras.Input((k,), name=key) for key, k in (("z", 1), ("a", 2))}
        h = keras.layers.Concatenate()([*inputs.values()])
        return Interface(keras.Model(structure(inputs), h))

    listed = interface(lambda inputs: [inputs["z"], inputs["a"]])
    keyed = interface(lambda inputs: inputs)
    nested = interface(lambda inputs: [inputs["z"], {"right": inputs["a"]}])
    for each, good, bad in (
        (listed, [(one, two), {"a": two, "z": one}], {"b": two, "z": one}),
        (keyed, [{"a": two, "z": one}, [two, one]], {"left": one, "a": two}),
        (nested, [[one, {"right": two}], [one, two]], [one, {"left": two}]),
    ):
        for x in good:
            rows = each.rows("warmup", x)
            np.testing.assert_array_equal(rows["z"], one)
            np.testing.assert_array_equal(rows["a"], two)
        for x in (bad, [one, two[:1]], [one[:0], two[:0]], [one], one):
            with pytest.raises(ValueError, match=r"inputs {.*Received: warmup="):
                each.rows("warmup", x)


def test_lite(rng, tmp_path):
    """The moments, converted for devices."""
    from ai_edge_litert.interpreter import Interpreter

    model = sequential()
    x = data(model, rng)["x"]
    folder = kv.export(model, tmp_path, SAMPLES)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=["moments"]
    )
    lite = Interpreter(model_content=converter.convert())
    served = lite.get_signature_runner("moments")(x=x)
    expected = kv.moment_predict(model, x, verbose=0)
    for key in STATISTICS:
        np.testing.assert_allclose(served[key], getattr(expected, key), atol=1e-4)


def test_unsupported_moments_are_left_out(tmp_path, rng):
    class Odd(layers.Layer):
        def call(self, inputs):
            return keras.ops.sort(inputs)

    model = keras.Sequential([keras.Input((4,), name="x"), kv.VarianceDense(3), Odd()])
    served = tf.saved_model.load(kv.export(model, tmp_path, SAMPLES))
    assert set(served.signatures) == {"serving_default", "serving_seeded", "samples"}
    outputs = served.signatures["serving_default"](x=tf.ones((2, 4)))
    assert set(outputs) == {"mean", "variance"}  # no probabilities


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = kv.VarianceDense(3)

    def call(self, inputs):
        return self.dense(inputs)


def test_names_of_outputs(tmp_path):
    """Keys, or layers; numbers where these are the same or not known."""
    x = keras.Input((4,), name="x")
    h, other = kv.VarianceDense(3, name="dense")(x), layers.Dense(2, name="other")(x)
    twice = layers.Dense(3, name="twice")
    cases = {
        ("size", "class"): {"size": h, "class": other},
        ("dense", "other"): [h, other],
        ("twice_0", "twice_1"): [twice(h), twice(twice(h))],
    }
    for names, outputs in cases.items():
        model = keras.Model(x, outputs)
        folder = kv.export(model, tmp_path, SAMPLES)
        served = tf.saved_model.load(folder).signatures["samples"](x=tf.ones((2, 4)))
        assert set(served) == {f"{name}_samples" for name in names}
    assert served["twice_0_samples"].shape == (2, SAMPLES, 3)


def test_dictionaries_keep_their_names(tmp_path):
    x = keras.Input((4,), name="x")
    h, other = kv.VarianceDense(3)(x), layers.Dense(2)(x)
    model = keras.Model(x, {"size": h, "class": other})
    served = tf.saved_model.load(kv.export(model, tmp_path, SAMPLES)).signatures
    for endpoint in ("serving_default", "moments"):
        answer = served[endpoint](x=tf.ones((2, 4)))
        assert answer["size_mean"].shape == (2, 3)
        assert answer["class_mean"].shape == (2, 2)


class Pair(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = kv.VarianceDense(3)

    def call(self, inputs):
        return self.dense(inputs), inputs


def test_subclassed_model_with_two_outputs(tmp_path):
    model = Pair()
    model(np.ones((1, 4)))
    signature = keras.InputSpec("float32", (None, 4), name="x")
    folder = kv.export(model, tmp_path, SAMPLES, input_signature=signature)
    answer = tf.saved_model.load(folder).signatures["samples"](x=tf.ones((2, 4)))
    assert answer["output_0_samples"].shape == (2, SAMPLES, 3)
    assert answer["output_1_samples"].shape == (2, SAMPLES, 4)


def test_subclassed_model(tmp_path):
    model = Subclassed()
    model(np.ones((1, 4)))
    signature = keras.InputSpec(shape=(None, 4), dtype="float32", name="x")
    likelihood = kv.likelihoods.Categorical(from_logits=True)
    folder = kv.export(
        model, tmp_path, SAMPLES, likelihood=likelihood, input_signature=signature
    )
    serve = tf.saved_model.load(folder).signatures
    first, second = (serve["serving_default"](x=tf.ones((2, 4))) for _ in range(2))
    assert (first["mean"] != second["mean"]).numpy().any()
    seed = tf.constant(3, tf.int64)
    seeded = serve["serving_seeded"](x=tf.ones((2, 4)), seed=seed)
    again = serve["serving_seeded"](x=tf.ones((2, 4)), seed=seed)
    np.testing.assert_array_equal(seeded["mean"], again["mean"])
    samples = serve["samples"](x=tf.ones((2, 4)))["samples"].numpy()
    assert samples.shape == (2, SAMPLES, 3)
    assert len(np.unique(samples[0, :, 0])) == SAMPLES


def test_versions(tmp_path):
    model = sequential()
    versions = [kv.export(model, tmp_path / "a" / "b", 2).name for _ in range(2)]
    versions.append(kv.export(model, tmp_path / "a" / "b", 2, version=7).name)
    versions.append(kv.export(model, tmp_path / "a" / "b", 2).name)
    assert versions == ["1", "2", "7", "8"]
    assert sorted(os.listdir(tmp_path / "a" / "b")) == sorted(versions)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"version": 1}, r"`version` must be new.*\[1\].*Received: version=1"),
        ({"version": 0}, r"`version`.*≥ 1.*Received: version=0"),
        ({"version": "2"}, r"`version`.*Received: version='2'"),
        ({"samples": 0}, r"`samples`.*Received: samples=0"),
        ({"head": "neck"}, r"`head`.*mean_field.*Received: head='neck'"),
        (
            {"input_signature": keras.InputSpec("float32", (None, 5), name="x")},
            r"`input_signature` must fit.*\(None, 4\).*Received: input_signature=",
        ),
        (
            {"input_signature": keras.InputSpec(shape=(None, 4))},
            r"`input_signature` must give each input a name.*Received: names=\[''\]",
        ),
        (
            {"input_signature": keras.InputSpec(shape=(None, 4), name="x")},
            r"`input_signature` must give each input a dtype.*Received: input_sig",
        ),
        ({"warmup": np.ones((2, 3))}, r"`warmup`.*Received: warmup=\[\(2, 3\)\]"),
        ({"warmup": np.ones((0, 4))}, r"at least one. Received: warmup=\[\(0, 4\)\]"),
        (
            {"warmup": {"y": np.ones((2, 4))}},
            r"inputs {'x': \(None, 4\)}.*Received: warmup={'y': \(2, 4\)}",
        ),
    ],
)
def test_bad_input_leaves_nothing_behind(arguments, message, tmp_path):
    model = sequential()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    with pytest.raises(ValueError, match=message):
        kv.export(model, tmp_path, **{"samples": 2, **arguments})
    assert os.listdir(tmp_path) == ["1"]


@pytest.mark.parametrize("address", ["gs://bucket/m", "s3://bucket/m", "gs:/bucket/m"])
@pytest.mark.parametrize("kind", [str, Path])
def test_other_storages(address, kind, tmp_path, monkeypatch):
    """They are no folders on this machine with such a name."""
    monkeypatch.chdir(tmp_path)
    message = r"`path` must be a local path.*Received: path=.*'(gs|s3):/"
    with pytest.raises(ValueError, match=message):
        kv.export(sequential(), kind(address), 2)
    with pytest.raises(ValueError, match=message):
        kv.serving.write_models_config(kind(f"{address}/c"), {"digits": "/models"})
    assert os.listdir() == []


def test_bad_paths(tmp_path):
    model = sequential()
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ValueError, match=r"`path` must be a folder. Received: path="):
        kv.export(model, file, 2)
    with pytest.raises(ValueError, match=r"`path` .* write: Not a dir.* Received: "):
        kv.export(model, file / "below", 2)
    with pytest.raises(ValueError, match=r"`path`.* it has 'file'. Received: path="):
        kv.export(model, tmp_path, 2)
    assert file.read_text() == "mine"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda: keras.Sequential([kv.VarianceDense(3)]), "built"),
        (lambda: Subclassed(), "`input_signature` is needed"),
        (lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3)]), "variance"),
        (
            lambda: keras.Sequential([keras.Input((4,), name="seed"), layers.Dense(3)]),
            r"Received: names=\['seed'\]",
        ),
    ],
)
def test_bad_models(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        kv.export(model(), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_an_error_on_the_way_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(folder, *_):
        assert any(folder.iterdir())
        raise RuntimeError("disk full")

    monkeypatch.setattr(kv.serving.server, "write_warmup", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        kv.export(sequential(), tmp_path / "a" / "m", 2, warmup=np.ones((1, 4)))
    assert os.listdir(tmp_path) == []


EXPORT = """
import sys
import keras_variance as kv
from tests.serving.test_export import sequential
kv.export(sequential(), sys.argv[1])
"""


def test_a_killed_export_leaves_no_version(tmp_path):
    path = tmp_path / "m"
    process = subprocess.Popen([sys.executable, "-c", EXPORT, str(path)])
    while not any(path.glob(".export-*/*")):
        assert process.poll() is None, "the export was over before it was killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [name for name in os.listdir(path) if not name.startswith(".")] == []
    assert kv.export(sequential(), path, 2).name == "1"
