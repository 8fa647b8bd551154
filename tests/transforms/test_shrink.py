"""`shrink` equals its source."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_variance as kv
from keras_variance.transforms import (
    ChannelwiseStep,
    draw,
    ensemble,
    shrink,
    shrink_report,
    shrink_rule,
)
from keras_variance.transforms.shrinking import steps
from tests.statistics import assert_same_moments
from tests.transforms.models import WALKED, new

layers = keras.layers
KERNELS = ("kernel", "embeddings", "depthwise_kernel", "pointwise_kernel")
SAMPLED = "weight_sampling"


def randomize(model, rng, pruned=0.5):
    """Random weights, and linear layers with zeros: units, inputs and others."""
    for weight in model.weights:
        if weight.dtype == "float32":
            positive = "moving_variance" in weight.name
            draws = rng.uniform(0.5, 1.5, weight.shape)
            weight.assign(draws if positive else rng.normal(size=weight.shape))
    prune_at_random(model.layers[:-1], rng, pruned)


def prune_at_random(every, rng, pruned):
    for layer in every:
        if isinstance(layer, keras.Model):
            prune_at_random(layer.layers, rng, pruned)
            continue
        kernels = [x for x in layer.weights if x.name in KERNELS]
        for kernel in kernels:
            shape = tuple(kernel.shape)
            mask = rng.random(shape) > pruned / 4
            mask &= rng.random((*shape[-2:-1], 1)) > pruned / 2
            mask &= rng.random(shape[-2:]) > pruned / 2
            mask &= rng.random(shape[-1:]) > pruned
            if isinstance(layer, kv.VarianceLayer):
                layer.keep(mask)
            else:
                kernel.assign(np.asarray(kernel) * mask)


def assert_equal(model, x, smaller=None):
    smaller = smaller or shrink(model)
    expected = keras.tree.flatten(model.predict(x, verbose=0))
    results = keras.tree.flatten(smaller.predict(x, verbose=0))
    for a, b in zip(results, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
    assert smaller.count_params() <= model.count_params()


def convolutional(padding="valid", pool=layers.MaxPooling2D):
    return keras.Sequential(
        [
            keras.Input((10, 10, 2)),
            layers.Conv2D(8, 3, padding=padding, activation="relu"),
            layers.BatchNormalization(),
            pool(2),
            layers.Conv2D(6, 3, padding=padding, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(20, activation="tanh"),
            layers.Dropout(0.3),
            layers.Dense(3, activation="softmax"),
        ]
    )


def residual():
    x = keras.Input((5,))
    h = layers.Dense(8, activation="relu")(x)
    h = layers.Add()([h, layers.Dense(8)(h)])
    h = layers.Concatenate()([h, layers.Dense(4)(h)])
    return keras.Model(x, layers.Dense(2)(h))


def padded():
    """A constant channel has another value in the padding."""
    return keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            layers.Conv2D(6, 2, activation="relu", bias_initializer="ones"),
            layers.ZeroPadding2D(1),
            layers.Conv2D(4, 2),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def operators():
    """Tensors added, scaled and rectified without layers."""
    x = keras.Input((5,))
    h = layers.Dense(8, activation="relu")(x)
    h = keras.ops.relu(2 * (h + layers.Dense(8)(h)) - 1)
    return keras.Model(x, layers.Dense(2)(keras.ops.maximum(h, 0.5)))


def nested():
    inner = keras.Sequential(
        [keras.Input((4, 4, 6)), layers.Conv2D(6, 2), layers.GlobalAveragePooling2D()]
    )
    x = keras.Input((6, 6, 2))
    h = layers.Conv2D(6, 3, activation="relu")(x)
    return keras.Model(x, layers.Dense(2)(inner(h)))


def transposed():
    return keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.Conv2DTranspose(6, 3, 2, activation="sigmoid"),
            layers.Conv2D(4, 3),
            layers.GlobalMaxPooling2D(),
            layers.Dense(2),
        ]
    )


def depthwise():
    """With and without padding, of constants too."""
    return keras.Sequential(
        [
            keras.Input((7, 7, 2)),
            layers.Conv2D(6, 2, activation="relu", bias_initializer="ones"),
            layers.DepthwiseConv2D(2, depth_multiplier=2, activation="tanh"),
            layers.DepthwiseConv2D(2, padding="same", activation="relu"),
            layers.Conv2D(4, 2, activation="sigmoid"),
            kv.VarianceDepthwiseConv2D(2, posterior="additive", estimator=SAMPLED),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


def separable():
    return keras.Sequential(
        [
            keras.Input((8, 2)),
            layers.Conv1D(6, 2, activation="sigmoid"),
            layers.SeparableConv1D(5, 2, depth_multiplier=2, activation="relu"),
            layers.SeparableConv1D(4, 2, padding="same", use_bias=False),
            layers.UpSampling1D(2),
            layers.Conv1DTranspose(4, 3, 2),
            layers.GlobalMaxPooling1D(),
            layers.Dense(2),
        ]
    )


def einsum():
    """A transformer's layers for each token, with heads that are left whole."""
    x = keras.Input((5, 6))
    h = layers.EinsumDense("btc,cd->btd", (5, 8), "relu", bias_axes="d")(x)
    h = layers.EinsumDense("...c,cd->...d", 6, "sigmoid")(h)
    heads = layers.EinsumDense("btc,chd->bthd", (5, 2, 3), bias_axes="hd")(h)
    h = layers.EinsumDense("bthd,hde->bte", (5, 6), "tanh", bias_axes="e")(heads)
    h = layers.EinsumDense("btc,cd->btd", (5, 8), bias_axes="d")(h)
    return keras.Model(x, layers.Dense(2)(layers.GlobalMaxPooling1D()(h)))


def embedded():
    x = keras.Input((5,), dtype="int32")
    random = kv.VarianceEmbedding(7, 6, posterior="additive", estimator=SAMPLED)
    h = layers.Embedding(7, 6)(x)
    h = layers.Add()([h, random(x)])
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(h)))


def boundaries():
    """With layers that are left whole."""
    shared = layers.Dense(6, activation="relu")
    x = keras.Input((6,))
    h = layers.LayerNormalization()(shared(shared(x)))
    h = layers.Dropout(0.5)(layers.Dense(6)(h), training=False)
    h = layers.Dense(8)(layers.Reshape((2, 3))(h))
    h = layers.Conv1D(4, 1, groups=2)(h)
    h = layers.EinsumDense("btc,cde->btde", (2, 2, 2))(h)
    return keras.Model(x, [layers.Dense(2)(layers.Flatten()(h)), layers.Softmax()(h)])


MODELS = {
    "convolutional": convolutional,
    "same padding": lambda: convolutional("same"),
    "average pooling": lambda: convolutional("same", layers.AveragePooling2D),
    "residual": residual,
    "padded": padded,
    "operators": operators,
    "nested": nested,
    "transposed": transposed,
    "depthwise": depthwise,
    "separable": separable,
    "einsum": einsum,
    "embedded": embedded,
    "boundaries": boundaries,
}


def inputs(model, rng, rows=4):
    (x,) = model.inputs
    if x.dtype == "int32":
        return rng.integers(7, size=(rows, *x.shape[1:]))
    return rng.normal(size=(rows, *x.shape[1:])).astype("float32")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_source(name, seed):
    """With variance layers: of a draw of the weights."""
    rng = np.random.default_rng(seed)
    model = MODELS[name]()
    randomize(model, rng)
    x = inputs(model, rng)
    if kv.layers.variance_layers(model):
        smaller = shrink(model)
        assert smaller.count_params() < model.count_params()
        mean = kv.transforms.propagate_mean
        assert_equal(mean(model), x, mean(smaller))
        model = draw(model, seed=seed)
    assert_equal(model, x)


@pytest.mark.parametrize(
    "name, left",
    [
        ("depthwise", [3, 6, 6]),
        ("separable", [3, 4]),
        ("einsum", [5, 6, 3, 4]),
        ("embedded", [4, 4]),
    ],
)
def test_what_is_left(name, left, rng):
    """Dead units go through each kind of layer."""
    model = MODELS[name]()
    weighted = [x for x in model.layers if getattr(x, "weights", ())]
    for layer, units in {
        "depthwise": {0: [1, 4, 5]},
        "separable": {0: [1, 4, 5], 1: [2]},
        "einsum": {0: [0, 1, 2], 1: [3, 4], 3: [3, 4]},
        "embedded": {0: [0, 5], 1: [0, 5]},
    }[name].items():
        alive = ~np.isin(np.arange(weighted[layer].weights[-1].shape[-1]), units)
        if isinstance(weighted[layer], kv.VarianceLayer):
            weighted[layer].keep(alive)
            continue
        for weight in weighted[layer].weights:
            if weight.name != "depthwise_kernel":
                weight.assign(np.array(weight) * alive)
    smaller = shrink(model)
    assert [row.units_left for row in shrink_report(model).layers][: len(left)] == left
    assert smaller.count_params() < model.count_params()
    sampled = draw(model) if kv.layers.variance_layers(model) else model
    assert_equal(sampled, inputs(model, rng))


@pytest.mark.parametrize("padding, left", [("valid", 2), ("same", 4)])
@pytest.mark.parametrize(
    "kind",
    [layers.Conv2D, layers.SeparableConv2D, layers.DepthwiseConv2D],
)
def test_constants_in_padding(kind, padding, left, rng):
    """A constant is another one at the edges, where the padding is 0; a convolution
    reads the sum of several."""
    first = layers.Conv2D(4, 1)
    filters = () if kind is layers.DepthwiseConv2D else (4,)
    last = [layers.Conv2D(2, 2), layers.GlobalMaxPooling2D()]
    model = keras.Sequential(
        [keras.Input((5, 5, 2)), first, kind(*filters, 2, padding=padding), *last]
    )
    first.kernel.assign(np.asarray(first.kernel) * [1, 0, 1, 0])
    first.bias.assign([1.0, 2.0, 3.0, -1.0])
    smaller = shrink(model)
    left -= kind is layers.Conv2D and padding == "same"
    assert smaller.layers[0].filters == left
    assert_equal(model, inputs(model, rng), smaller)


@pytest.mark.parametrize("posterior", ["zero_mean", "additive"])
def test_constants_before_random_weights(posterior, rng):
    """Units that were pruned are constants after BatchNorm: one is left of them."""
    first = layers.Dense(40, use_bias=False)
    random = kv.VarianceDense(30, "relu", posterior=posterior, name="random")
    model = keras.Sequential(
        [
            keras.Input((5,)),
            *(first, layers.BatchNormalization(), layers.ReLU()),
            *(random, layers.Dense(2)),
        ]
    )
    randomize(model, rng, pruned=0)
    first.kernel.assign(np.asarray(first.kernel) * (np.arange(40) < 12))
    random.keep(rng.random((40, 30)) > 0.3)
    smaller = shrink(model)
    assert smaller.layers[0].units == 13
    x = inputs(model, rng)
    each = [
        kv.transforms.propagate_moments(each, likelihood=None, statistics=True)
        for each in (model, smaller)
    ]
    expected, result = (each.predict(x, verbose=0) for each in each)
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, rtol=1e-4)
    mask = np.asarray(smaller.get_layer("random").mask)
    assert mask.all(axis=1).any() and not mask.all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"noise": "uniform"},
        {"posterior": "layer_alpha"},
        {
            "posterior": "additive",
            "prior": kv.priors.Normal(0.1, mean="initial"),
            "train_size": 10,
        },
    ],
)
def test_constants_that_cannot_be_merged(arguments, rng):
    """A sum of uniform variables is not uniform, layers have one α, and a prior's
    centers are of weights."""
    first = layers.Dense(6, bias_initializer="ones")
    random = kv.VarianceDense(3, **arguments)
    model = keras.Sequential([keras.Input((5,)), first, random, layers.Dense(2)])
    first.kernel.assign(np.asarray(first.kernel) * [1, 1, 0, 0, 0, 0])
    assert shrink(model).layers[0].units == 6


class Halve(layers.Layer):
    def call(self, inputs):
        return inputs / 2


def test_a_users_rule(monkeypatch, rng):
    monkeypatch.setattr(steps, "STEPS", dict(steps.STEPS))
    first = layers.Dense(8, activation="relu")
    model = keras.Sequential([keras.Input((5,)), first, Halve(), layers.Dense(2)])
    first.kernel.assign(np.asarray(first.kernel) * ([0, 1] * 4))
    assert shrink(model).layers[0].units == 8
    shrink_rule(Halve)(ChannelwiseStep)
    smaller = shrink(model)
    assert smaller.layers[0].units == 4
    assert_equal(model, inputs(model, rng), smaller)


def test_gets_smaller(rng):
    """A known case: dead units go, what only they read goes, constants are folded."""
    first, second, last = layers.Dense(4), layers.Dense(3, "relu"), layers.Dense(2)
    model = keras.Sequential([keras.Input((2,)), first, second, last])
    for layer in (first, second, last):
        layer.kernel.assign(rng.normal(size=layer.kernel.shape))
        layer.bias.assign(rng.uniform(1, 2, layer.bias.shape))
    first.kernel.assign(np.asarray(first.kernel) * [1, 0, 1, 1])  # unit 1: its bias
    kernel = np.array(second.kernel.numpy())
    kernel[2] = 0  # nothing reads unit 2 of the first layer
    kernel[:, 1] = 0  # unit 1 of the second: relu(bias)
    second.kernel.assign(kernel)
    smaller = shrink(model)
    sizes = [layer.units for layer in smaller.layers]
    assert sizes == [2, 2, 2]
    assert_equal(model, rng.normal(size=(5, 2)).astype("float32"), smaller)
    rows = shrink_report(model).layers
    assert [row.units_left for row in rows] == sizes
    assert [row.inputs_left for row in rows] == [2, 2, 2]
    assert "4 → 2" in str(shrink_report(model))


@pytest.mark.parametrize("make", [residual, operators])
def test_sums_get_smaller(make, rng):
    """A unit that is dead in both summands goes."""
    model = make()
    first, second = [x for x in model.layers if getattr(x, "units", 0) == 8][:2]
    for layer in (first, second):
        layer.kernel.assign(np.asarray(layer.kernel) * [1, 0, 1, 0, 1, 1, 1, 1])
    smaller = shrink(model)
    sizes = [layer.units for layer in smaller.layers if hasattr(layer, "units")]
    assert sizes[:2] == [6, 6]
    assert_equal(model, rng.normal(size=(5, 5)).astype("float32"), smaller)


def test_nothing_to_remove_shares_the_layers():
    model = residual()
    smaller = shrink(model)
    assert smaller.layers[1] is model.layers[1]
    assert smaller.count_params() == model.count_params()


@pytest.mark.parametrize("posterior", ["zero_mean", "neuron_alpha", "additive"])
@pytest.mark.parametrize("name", sorted(set(WALKED) - {"multiple"}))
def test_variance_layers_keep_their_moments(name, posterior, rng):
    """Over draws, which have the same distribution though not the same noise."""
    model, x = new(name, rng, posterior=posterior)
    prune_at_random(model.layers[:-1], rng, 0.5)
    outputs = [
        ensemble(each, 3000, seed=seed).predict(x[:2], verbose=0).swapaxes(0, 1)
        for seed, each in enumerate((model, shrink(model)))
    ]
    assert_same_moments(*outputs)


def test_a_draw_is_equal(rng):
    """Of a pruned model: with the noise in the weights, exactly."""
    model, x = new("convolutional", rng)
    kv.prune(model, 0.7, granularity="unit", layers=[model.layers[1].name])
    stock = draw(model, seed=1)
    assert_equal(stock, x)
    assert shrink(stock).count_params() < stock.count_params() / 1.5


def test_what_is_left_whole():
    reasons = {row.left_whole for row in shrink_report(boundaries()).layers}
    assert reasons == {
        "",
        "called more than once",
        "called with further arguments",
        "an equation with several axes of units",
        "not known to keep channels apart",
    }


def test_save_and_train(rng, tmp_path):
    model = convolutional()
    randomize(model, rng)
    smaller = shrink(model)
    x = rng.normal(size=(8, 10, 10, 2)).astype("float32")
    expected = smaller.predict(x, verbose=0)
    smaller.save(tmp_path / "m.keras")
    reloaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(reloaded.predict(x, verbose=0), expected, rtol=1e-5)
    smaller.compile("adam", "sparse_categorical_crossentropy")
    history = smaller.fit(x, np.zeros(8), verbose=0).history
    assert np.isfinite(history["loss"]).all()


@st.composite
def architectures(draw):
    """Blocks, how their features are read, how much is pruned, and a seed."""
    kinds = ("conv", "same", "norm", "relu", "max", "average", "residual", "variance")
    blocks = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=5))
    end = draw(st.sampled_from(("flatten", "average", "max")))
    return blocks, end, draw(st.sampled_from((0.2, 0.5, 0.9))), draw(st.integers(0, 99))


def build(blocks, end):
    h = x = keras.Input((9, 9, 2))
    simple = {
        "norm": layers.BatchNormalization,
        "relu": layers.ReLU,
        "max": lambda: layers.MaxPooling2D(2, padding="same"),
        "average": lambda: layers.AveragePooling2D(2, padding="same"),
        "variance": lambda: kv.VarianceConv2D(3, 1, posterior="additive"),
        "same": lambda: layers.Conv2D(4, 2, padding="same", activation="relu"),
        "flatten": layers.Flatten,
    }
    for block in blocks:
        if block == "residual":
            other = layers.Conv2D(h.shape[-1], 1, activation="tanh")(h)
            h = layers.Add()([h, other])
        elif block == "conv":
            h = layers.Conv2D(4, min(2, h.shape[1]), activation="relu")(h)
        else:
            h = simple[block]()(h)
    pools = {"average": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
    h = (simple | pools)[end]()(h)
    return keras.Model(x, layers.Dense(2)(layers.Dense(5, "relu")(h)))


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(architectures())
def test_random_architectures(architecture):
    """With the weights at their means, and as a sample of the weights."""
    blocks, end, pruned, seed = architecture
    rng = np.random.default_rng(seed)
    model = build(blocks, end)
    randomize(model, rng, pruned)
    x = rng.normal(size=(3, 9, 9, 2)).astype("float32")
    if "variance" in blocks:
        mean = kv.transforms.propagate_mean
        assert_equal(mean(model), x, mean(shrink(model)))
        model = draw(model, seed=seed)
    assert_equal(model, x)
