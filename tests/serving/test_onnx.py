"""ONNX files, as onnxruntime sees them."""

import os
import sys

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.serving import onnx
from tests import backends
from tests.serving.models import STATISTICS, data, multiple, sequential

if backends.BACKEND == "jax":
    pytest.skip("Keras has no exporter of ONNX on JAX", allow_module_level=True)
if backends.BACKEND == "tensorflow":
    pytest.importorskip("tf2onnx")
pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
layers = keras.layers
SAMPLES = 3


def binary():
    """The last layer is stochastic too: its probabilities are integrated."""
    x = keras.Input((4,), name="x")
    h = kv.VarianceDense(6, posterior="additive", activation="tanh")(x)
    return keras.Model(x, kv.VarianceDense(1, activation="sigmoid")(h))


def regression():
    return keras.Sequential(
        [
            keras.Input((4,), name="x"),
            kv.VarianceDense(6, posterior="weight_alpha", activation="gelu"),
            layers.Dense(2),
        ]
    )


def lenet():
    return keras.Sequential(
        [
            keras.Input((14, 14, 1), name="image"),
            kv.VarianceConv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            kv.VarianceDense(8, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(10, "softmax"),
        ]
    )


def categorical_entropy(p):
    return -(p * np.log(p)).sum(axis=-1)


def binary_entropy(p):
    return categorical_entropy(np.stack([p, 1 - p], axis=-1)).sum(axis=-1)


# For the prefix of each output: the entropy of what it means
MODELS = {
    sequential: {"": categorical_entropy},
    multiple: {"label_": categorical_entropy, "size_": None},
    binary: {"": binary_entropy},
    regression: {"": None},
    lenet: {"": categorical_entropy},
}


def answers(path, x):
    session = onnxruntime.InferenceSession(path)
    assert {each.name for each in session.get_inputs()} == {*x}
    for each in (*session.get_inputs(), *session.get_outputs()):
        assert each.shape[0] == "batch"
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, x), strict=True))


def check(answer, expected):
    """That the statistics of all outputs, and no others, are as expected.

    Args:
        answer: {name: array}.
        expected: {prefix: `Prediction`}.
    """
    known = {
        f"{prefix}{key}": getattr(each, key)
        for prefix, each in expected.items()
        for key in STATISTICS
        if getattr(each, key) is not None
    }
    assert {*answer} == {*known}
    for key, value in known.items():
        np.testing.assert_allclose(answer[key], value, rtol=1e-4, atol=1e-4)


def prediction(samples, entropy):
    """Of samples, (batch, samples, …)."""
    mean, variance = samples.mean(axis=1), samples.var(axis=1)
    if entropy is None:
        return kv.Prediction(mean, variance, None, None)
    total = entropy(mean)
    information = total - entropy(samples).mean(axis=1)
    aleatoric = np.mean(samples * (1 - samples), axis=1)
    return kv.Prediction(mean, variance, total, information, None, aleatoric)


def listed(outputs):
    """A list of what each output of a model is."""
    return outputs if isinstance(outputs, list) else [outputs]


@pytest.mark.parametrize("new", MODELS)
def test_files_answer_as_the_models(new, rng, tmp_path):
    model, entropies = new(), MODELS[new]
    x = data(model, rng, rows=5)
    inputs = x if len(x) > 1 else next(iter(x.values()))
    options = {"format": "onnx", "seed": 1}
    folder = kv.export(model, tmp_path, SAMPLES, **options)
    assert folder == tmp_path / "1"
    assert sorted(os.listdir(folder)) == ["frozen.onnx", "moments.onnx"]
    moments = kv.moment_predict(model, inputs, verbose=0)
    expected = dict(zip(entropies, listed(moments), strict=True))
    check(answers(folder / "moments.onnx", x), expected)
    draws = [kv.transforms.draw(model, kv.random.derive(1, k)) for k in range(SAMPLES)]
    samples = [
        np.stack(each, 1)
        for each in zip(
            *(listed(draw.predict(inputs, verbose=0)) for draw in draws), strict=True
        )
    ]
    expected = {
        prefix: prediction(each, entropy)
        for (prefix, entropy), each in zip(entropies.items(), samples, strict=True)
    }
    check(answers(folder / "frozen.onnx", x), expected)


def test_frozen_samples_are_those_of_the_seed(tmp_path):
    model, x = sequential(), {"x": np.ones((2, 4), "float32")}
    first, again, other = (
        answers(kv.export(model, tmp_path, 2, format="onnx", seed=k) / "frozen.onnx", x)
        for k in (3, 3, 4)
    )
    np.testing.assert_array_equal(first["mean"], again["mean"])
    assert (first["mean"] != other["mean"]).any()
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "3"]


class Odd(layers.Layer):
    """One without a rule of moments."""

    def call(self, inputs):
        return keras.ops.roll(inputs, 1, axis=1)


class Lacking(layers.Layer):
    """One of an operator that ONNX lacks."""

    def call(self, inputs):
        return keras.ops.erfinv(inputs)


def ending_in(layer, name="x"):
    return keras.Sequential([keras.Input((4,), name=name), kv.VarianceDense(3), layer])


def test_unsupported_moments_are_left_out(tmp_path):
    folder = kv.export(ending_in(Odd()), tmp_path, 2, format="onnx")
    assert os.listdir(folder) == ["frozen.onnx"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"frozen": False}, r"`frozen` must be True.*noise.*Received: frozen=False"),
        ({"warmup": np.ones((1, 4))}, r"`warmup` must be None.*Received: warmup="),
        ({"format": "tflite"}, r"`format`.*saved_model.*onnx.*Received: format='tfl"),
        ({"path": "saved"}, r"`path`.*'frozen.onnx': it has '1'. Received: path="),
        ({"model": ending_in(layers.ReLU(), "mean")}, r"`model`.*names.*\['mean'\]"),
        ({"model": ending_in(Lacking())}, r"(?is)`model` can't.*erfinv.*Received: "),
    ],
)
def test_bad_input_leaves_nothing_behind(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved" / "1").mkdir(parents=True)
    (tmp_path / "saved" / "1" / "saved_model.pb").touch()
    defaults = {"model": ending_in(layers.ReLU()), "path": "m", "format": "onnx"}
    with pytest.raises(ValueError, match=message):
        kv.export(**{**defaults, "samples": 2, **arguments})
    assert os.listdir() == ["saved"]


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path, monkeypatch):
    call = onnx.Answers.call

    def off(self, inputs):
        mean, *rest = call(self, inputs)
        return [mean + 1e-3, *rest]

    monkeypatch.setattr(onnx.Answers, "call", off)
    with pytest.raises(ValueError, match=r"'mean' of 1 rows is wrong by 0.001 in froz"):
        kv.export(sequential(), tmp_path / "m", 2, format="onnx")
    assert os.listdir(tmp_path) == []


def test_a_package_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install keras_variance\[onnx\]"):
        kv.export(sequential(), tmp_path / "m", 2, format="onnx")
    assert os.listdir(tmp_path) == []
