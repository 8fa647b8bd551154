import contextlib
import math
import re
import warnings

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.layers.stock import effective_kernel
from keras_variance.transforms import ensemble, replace, replace_report
from tests.layers.cases import CASES, activation, inputs
from tests.transforms import awkward

POSTERIORS = ("layer_alpha", "neuron_alpha", "weight_alpha", "additive")


array = keras.ops.convert_to_numpy


@contextlib.contextmanager
def silent():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*layers with kernels are left")
        yield


def network():
    inner = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(5), keras.layers.ReLU()]
    )
    x = keras.Input((6, 6, 2))
    h = keras.layers.Conv2D(3, 3, activation="relu", name="convolution")(x)
    h = keras.layers.Flatten()(keras.layers.BatchNormalization()(h))
    h = keras.layers.Dense(5, use_bias=False, name="hidden")(h)
    return keras.Model(x, keras.layers.Dense(3, name="last")(inner(inner(h)) + h))


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_predictions_stay_close(posterior, rng):
    model = network()
    x = rng.normal(size=(20, 6, 6, 2)).astype("float32")
    result = replace(model, posterior, prior="log_uniform", train_size=20)
    layers = kv.layers.variance_layers(result)
    assert len(layers) == 4
    np.testing.assert_allclose(np.mean(np.asarray(layers[0].log_alpha)), -5, atol=3)
    expected = np.asarray(model(x))
    error = np.asarray(result(x)) - expected
    assert 0 < np.std(error) < 0.3 * np.std(expected)  # of 8 % in each of four layers


@pytest.mark.parametrize("name", CASES)
def test_every_layer(name, rng):
    case = CASES[name]
    stock = case.stock(**case.arguments, **activation(case, "tanh"))
    model = keras.Sequential([keras.Input(case.input_shape), stock])
    posterior = kv.posteriors.WeightAlpha(initial_log_alpha=-60)
    result = replace(model, posterior)
    assert type(result.layers[-1]) is case.layer
    np.testing.assert_array_equal(result.layers[-1].kernel, effective_kernel(stock))
    x = inputs(case, rng)
    np.testing.assert_allclose(result(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_kernel_of_zeros(posterior):
    """Additive noise, which can be trained, is little, and not none."""
    layer = keras.layers.Dense(3, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((4,)), layer])
    result = replace(model, posterior)
    np.testing.assert_allclose(result(np.ones((2, 4))), 0, atol=0.1)
    if posterior == "additive":
        np.testing.assert_allclose(result.layers[-1].phi, -10, rtol=1e-6)


def test_chosen_layers():
    model = network()
    for layers in (["hidden"], [model.get_layer("hidden")]):
        result = replace(model, layers=layers)
        found = kv.layers.variance_layers(result)
        assert [layer.name for layer in found] == ["hidden"]


def test_trains(rng):
    model = replace(network(), prior="ard", train_size=20)
    model.compile("adam", "mse")
    model.fit(rng.normal(size=(20, 6, 6, 2)), rng.normal(size=(20, 3)), verbose=0)
    assert len(model.losses) == 4


@pytest.fixture(scope="module")
def digits():
    """A trained network, its images and labels."""
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    hidden = keras.layers.Dense(64, "relu")
    model = keras.Sequential(
        [keras.Input((64,)), hidden, keras.layers.Dense(10, "softmax")]
    )
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    x = x.astype("float32") / 16
    model.fit(x, y, epochs=20, batch_size=64, verbose=0)
    return model, x, y


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_moped(posterior, digits):
    """With the default posterior and a prior around the trained weights, a network
    predicts as before; the KL divergence pulls weights back to where they were."""
    model, x, y = digits
    prior = kv.priors.Normal(0.1, mean="initial")
    result = replace(model, posterior, prior=prior, train_size=1)
    prediction = kv.mc_predict(result, x, samples=20, verbose=0)
    accuracy = np.mean(np.argmax(prediction.mean, -1) == y)
    before = np.mean(np.argmax(model.predict(x, verbose=0), -1) == y)
    assert before > 0.95 and abs(accuracy - before) < 0.002
    start = [np.array(layer.kernel) for layer in model.layers]
    for layer, kernel in zip(result.layers, start, strict=True):
        layer.kernel.assign(2 * kernel)
        layer.phi.trainable = False
    result.compile(keras.optimizers.SGD(1e-3), loss=lambda y, p: 0.0 * p)
    result.fit(x[:1], y[:1], epochs=20, verbose=0)
    for layer, kernel in zip(result.layers, start, strict=True):
        distance = np.linalg.norm(np.asarray(layer.kernel) - kernel)
        assert distance < 0.5 * np.linalg.norm(kernel)


def composite():
    """A nested model, layers without variance classes, and others without kernels."""
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, name="dense")], name="inner"
    )
    x = keras.Input((6,), dtype="int32")
    h = keras.layers.Embedding(9, 4, mask_zero=True, name="tokens")(x)
    h = keras.layers.LSTM(4, return_sequences=True, name="lstm")(h)
    h = keras.layers.MultiHeadAttention(2, 2, name="attention")(h, value=h)
    h = keras.layers.LayerNormalization(name="normalization")(h)
    h = inner(keras.layers.GlobalAveragePooling1D()(h))
    return keras.Model(x, keras.layers.Dense(3, name="dense")(h))


def turned(model, layers):
    return [row.path for row in replace_report(model, layers).layers if row.result]


ATTENTION = [f"attention/{x}" for x in ("query", "key", "value", "attention_output")]
EVERY = ["tokens", "inner/dense", "lstm/lstm_cell", *ATTENTION, "dense"]
LAYERS = keras.layers
CHOICES = {
    "all": (None, ["tokens", "inner/dense", "dense"]),
    "last": ("last", ["dense"]),
    "path": (["inner/dense"], ["inner/dense"]),
    "nested model": ("inner", ["inner/dense"]),
    "name": (["tokens", "lstm"], ["tokens", "lstm/lstm_cell"]),
    "class": (LAYERS.LSTM, ["lstm/lstm_cell"]),
    "classes": ((LAYERS.Embedding, LAYERS.LSTM), ["tokens", "lstm/lstm_cell"]),
    "any class": (LAYERS.Layer, EVERY),
    "inside": ("query", ["attention/query"]),
    "predicate": (lambda x: isinstance(x, LAYERS.EinsumDense), ATTENTION),
    "no choice of kernels": (lambda x: x.name != "tokens", EVERY[1:]),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_choices(choice, rng):
    """What is chosen is turned, and the outputs are those of the source."""
    model, (layers, expected) = composite(), CHOICES[choice]
    assert sorted(turned(model, layers)) == sorted(expected)
    x = rng.integers(1, 9, size=(4, 6))
    x[0, 3:] = 0  # masked
    with silent():
        result = replace(model, awkward.OFF, layers)
    np.testing.assert_allclose(array(result(x)), array(model(x)), rtol=1e-4, atol=1e-5)
    found = kv.layers.variance_layers(result)
    numbers = [math.prod(w.shape) for each in found for w in each.random_weights]
    report = replace_report(model, layers)
    assert sum(numbers) == sum(row.random for row in report.layers)
    assert sum(row.weights for row in report.layers) == model.count_params()
    np.testing.assert_allclose(report.share, sum(numbers) / model.count_params())
    assert [each.name for each in result.layers] == [x.name for x in model.layers]


def test_only_what_is_chosen_is_random():
    result = replace(composite(), layers=["query", "lstm"])
    names = {
        layer.name: [weight.name for weight in layer.random_weights]
        for layer in kv.layers.variance_layers(result)
    }
    assert names == {
        "attention": ["query/kernel"],
        "lstm": ["lstm_cell/kernel", "lstm_cell/recurrent_kernel"],
    }


class Pair(keras.layers.Layer):
    """Two layers inside whose names Keras counts up."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = keras.layers.Dense(4), keras.layers.Dense(4)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.second.build(input_shape)

    def call(self, inputs):
        return self.second(self.first(inputs))


def test_names_that_a_copy_does_not_keep(rng):
    pair = Pair()
    model = keras.Sequential([keras.Input((4,)), pair])
    result = replace(model, awkward.OFF, layers=[pair.second]).layers[-1]
    drawn = [weight.variable for weight in result.random_weights]
    assert len(drawn) == 1 and drawn[0] is result.layer.second.kernel
    x = rng.normal(size=(3, 4))
    np.testing.assert_allclose(array(result(x)), array(pair(x)), rtol=1e-4, atol=1e-5)


def test_reports():
    model = composite()
    reasons = {row.path: row.reason for row in replace_report(model).layers}
    inside = "inside 'lstm' (LSTM), which has no variance class"
    assert reasons["lstm/lstm_cell"] == inside
    assert reasons["normalization"] == "no kernel"
    assert reasons["dense"] == ""
    rows = replace_report(model, "last").layers
    reasons = {row.path: row.reason for row in rows}
    assert reasons["tokens"] == reasons["lstm/lstm_cell"] == "not chosen"
    again = {
        row.path: row
        for row in replace_report(replace(model, layers="last"), "inner").layers
    }
    assert again["dense"].reason == "draws its weights already"
    assert again["dense"].random == 12 and again["inner/dense"].random == 16
    lines = str(replace_report(model)).splitlines()
    assert len(lines) == 1 + len(rows) and all("  " in line for line in lines)


def test_nothing_is_left_in_silence():
    model = composite()
    with pytest.warns(UserWarning, match="5 layers with kernels are left.*'lstm/lstm_"):
        replace(model)
    message = (
        r"'lstm/lstm_cell' \(inside 'lstm'.*'attention/key'.*Received: strict=True"
    )
    with pytest.raises(ValueError, match=message):
        replace(model, strict=True)
    for layers in ("last", LAYERS.Dense, LAYERS.Layer):
        replace(model, layers=layers, strict=True)


class Own(keras.layers.Layer):
    """A layer that Keras cannot copy."""

    def __init__(self, units):
        super().__init__(name="own")
        self.dense = keras.layers.Dense(units)

    def call(self, inputs):
        return self.dense(inputs)


class Faulty(Own):
    """Its configuration has an error."""

    def get_config(self):
        return {"units": self.units}


class Doubled(keras.layers.Dense):
    """A stock layer's subclass, which may compute anything."""

    def call(self, inputs):
        return 2 * super().call(inputs)


def one(layer, shape=(4,)):
    model = keras.Sequential([keras.Input(shape), keras.layers.Dense(4), layer])
    model(np.ones((1, *shape)))
    return model


def first_axis():
    return keras.layers.EinsumDense("abc,cd->bad", (None, 4, 5), name="own")


LEFT = {
    "no class": (lambda: Doubled(4, name="own"), "no variance class", ()),
    "faulty": (lambda: Faulty(4), "inside 'own' .Faulty., which has no variance", ()),
    "own": (lambda: Own(4), "inside 'own' .Own., which has no variance class", ()),
    "einsum": (first_axis, "first axis of inputs and of outputs is the batch", (4, 4)),
    "random": (lambda: kv.VarianceDense(4, name="own"), "already", ()),
    "norm": (lambda: keras.layers.BatchNormalization(name="own"), "no kernel", ()),
}


@pytest.mark.parametrize("name", LEFT)
def test_left(name):
    make, reason, shape = LEFT[name]
    model = one(make(), shape or (4,))
    row = replace_report(model).layers[-1]
    assert re.search(reason, row.reason) and not row.result
    with silent():
        result = replace(model)
    assert result.layers[-1] is model.layers[-1]
    if name in ("own", "faulty"):
        reason = "`get_config` cannot copy"
    if name == "no class":
        assert turned(model, ["own"]) == ["own"]
    else:
        with pytest.raises(ValueError, match=rf"{reason}.*Received: layers=\['own'\]"):
            replace(model, layers=["own"])


def test_a_subclass_is_wrapped(rng):
    model, x = one(Doubled(4, name="own")), rng.normal(size=(3, 4))
    result = replace(model, awkward.OFF, "last")
    np.testing.assert_allclose(array(result(x)), array(model(x)), rtol=1e-4, atol=1e-5)


class BuiltAtOnce(keras.layers.Dense):
    """A layer that builds itself when it is made, as a decoder of KerasHub."""

    def __init__(self, units, size=4, **kwargs):
        super().__init__(units, **kwargs)
        self.build((None, size))


def test_a_copy_that_is_built(rng):
    model, x = one(BuiltAtOnce(4, name="own")), rng.normal(size=(3, 4))
    result = replace(model, awkward.OFF, "last")
    np.testing.assert_allclose(array(result(x)), array(model(x)), rtol=1e-4, atol=1e-5)


def test_weights_that_two_layers_have():
    """They would be two afterwards."""

    @keras.saving.register_keras_serializable("tests")
    class Head(keras.layers.Layer):
        def __init__(self, table, **kwargs):
            super().__init__(**kwargs)
            self.table = table

        def call(self, inputs):
            return keras.ops.matmul(inputs, keras.ops.transpose(self.table.embeddings))

    table = keras.layers.Embedding(9, 4, name="table")
    x = keras.Input((6,), dtype="int32")
    h = keras.layers.Dense(4, name="dense")(table(x))
    model = keras.Model(x, Head(table, name="head")(h))
    with pytest.warns(UserWarning, match="'table'"):
        result = replace(model)
    assert [each.name for each in kv.layers.variance_layers(result)] == ["dense"]
    with pytest.raises(ValueError, match=r"'table' \('head' has its weights too\)"):
        replace(model, layers=["table"])


def test_a_layer_is_called_twice(rng):
    """It is one layer afterwards too, wherever it is called."""
    dense = keras.layers.Dense(4)
    a = keras.Input((4,))
    inner = keras.Model(a, dense(a))
    x = keras.Input((4,))
    model = keras.Model(x, dense(inner(keras.ops.tanh(dense(x)))))
    result, x = replace(model, awkward.OFF), rng.normal(size=(3, 4))
    assert len(kv.layers.variance_layers(result)) == 1
    np.testing.assert_allclose(array(result(x)), array(model(x)), rtol=1e-4, atol=1e-5)


def test_zero_mean(rng):
    """The standard deviations are the weights' absolute values."""
    model, x = network(), rng.normal(size=(3, 6, 6, 2))
    for weight in model.get_layer("last").weights:
        weight.assign(rng.normal(size=weight.shape))
    result = replace(model, "zero_mean", layers=["last"])
    kernel, bias = map(array, model.get_layer("last").weights)
    layer = result.get_layer("last")
    assert layer.kernel_mean is None
    np.testing.assert_array_equal(np.abs(array(layer.kernel_scale)), np.abs(kernel))
    inputs = keras.Model(model.input, model.get_layer("last").input)
    variance = array(inputs(x)) ** 2 @ kernel**2
    draws = array(ensemble(result, 2000, seed=1)(x))
    z = (draws.mean(axis=1) - bias) / np.sqrt(variance / 2000)
    assert np.abs(z).max() < 4.5
    np.testing.assert_allclose(draws.var(axis=1) / variance, 1, atol=0.2)


@pytest.mark.parametrize("layers", ["last", ["lstm", "dense"]])
def test_fresh(layers):
    """θ starts anew; what is not drawn is kept, biases too."""
    model = composite()
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 0.5))
    result = replace(model, "zero_mean", layers, fresh=True)
    found = kv.layers.variance_layers(result)
    drawn = [weight.variable for layer in found for weight in layer.random_weights]
    assert len(drawn) == (1 if layers == "last" else 3)
    for weight in result.weights:
        fresh = any(weight is each for each in drawn)
        assert np.all(array(weight) == 0.5) != fresh


def test_each_has_a_seed_of_its_own():
    model = composite()
    results = [replace(model, layers=LAYERS.Layer, seed=seed) for seed in (1, 1, 2)]
    seeds = [[x.seed for x in kv.layers.variance_layers(r)] for r in results]
    assert seeds[0] == seeds[1] != seeds[2]
    assert len(set(seeds[0])) == len(seeds[0]) == 5


def test_frozen_layers():
    """Also what is frozen inside of a layer that is wrapped, and nested models."""
    model = composite()
    model.get_layer("attention").query_dense.trainable = False
    model.get_layer("tokens").trainable = False
    model.get_layer("inner").trainable = False
    model.get_layer("inner").layers[0].trainable = True  # in a frozen model
    flags = {p: x.trainable for p, x in kv.layers.layer_paths(model).items()}
    result = replace(model, layers=LAYERS.Layer)
    paths = kv.layers.layer_paths(result)
    assert not paths["tokens"].trainable and not paths["inner"].trainable
    assert paths["inner/dense"].trainable
    assert not paths["inner"].trainable_variables
    for path in ATTENTION:
        assert paths[f"attention/{path}"].trainable == flags[path]
    assert not flags["attention/query"] and flags["attention/key"]
    assert flags == {p: x.trainable for p, x in kv.layers.layer_paths(model).items()}


def test_policies_and_arguments_are_kept():
    stock = keras.layers.Dense(
        4,
        kernel_regularizer="l2",
        bias_constraint="non_neg",
        kernel_initializer=keras.initializers.HeNormal(3),
        dtype="mixed_float16",
    )
    for layer in (
        stock,
        keras.layers.LSTM(4, kernel_regularizer="l2", dtype="mixed_float16"),
    ):
        shape = (4,) if layer is stock else (5, 4)
        new = replace(one(layer, shape), layers="last").layers[-1]
        inner = new if layer is stock else new.layer
        assert inner.dtype_policy.name == layer.dtype_policy.name
        expected = layer.get_config()
        assert {
            k: v for k, v in inner.get_config().items() if k in expected
        } == expected


def test_saving(tmp_path, rng):
    model, x = composite(), rng.integers(9, size=(4, 6))
    result = replace(
        model, awkward.OFF, ["query", "lstm", "inner"], prior="ard", train_size=9
    )
    result.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(array(loaded(x)), array(model(x)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        float(sum(loaded.losses)), float(sum(result.losses)), rtol=1e-5
    )


def test_bad_input():
    model = network()
    with pytest.raises(ValueError, match=r"'hidden'.*'last'.*: layers=\['a'\]"):
        replace(model, layers=["a"])
    with pytest.raises(ValueError, match=r"Received: layers=\[\]"):
        replace(model, layers=[])
    with pytest.raises(ValueError, match="Sequential or a Functional"):
        replace(kv.transforms.ensemble, prior="ard")
    empty = keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])
    with pytest.raises(
        ValueError, match=r"no layer with weights.*Received: layers=None"
    ):
        replace(empty)
    norm = keras.Sequential(
        [keras.Input((4,)), keras.layers.BatchNormalization(name="n")]
    )
    with pytest.raises(ValueError, match=r"'n' \(no kernel\). Received: layers='last'"):
        replace(norm, layers="last")
    with pytest.raises(ValueError, match=r"several outputs.*Received: layers='last'"):
        replace(keras.Model(model.input, [model.output, model.output]), layers="last")
    message = r"layers that are wrapped, as \['lstm'\].*Received: estimator='flipout'"
    with pytest.raises(ValueError, match=message):
        replace(composite(), layers=["lstm", "dense"], estimator="flipout")
    sampled = replace(
        composite(), layers=["lstm", "dense"], estimator="weight_sampling"
    )
    assert isinstance(sampled.layers[-1].estimator, kv.estimators.WeightSampling)


def test_the_deprecated_name():
    assert kv.transforms.from_deterministic is replace
