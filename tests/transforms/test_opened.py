"""Layers that are made of others: their calls are walked as those of a model."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_variance as kv
from keras_variance import _keras
from keras_variance.transforms import ensemble, propagate_moments
from keras_variance.transforms.walk import opened
from tests import backends
from tests.statistics import assert_same_moments
from tests.transforms import awkward

DRAWS = 2_000


def features(rng, *shape):
    return rng.normal(size=(3, *shape)).astype("float32")


def model_of(layer, *shape):
    x = keras.Input(shape)
    return keras.Model(x, layer(x))


def graph_of(layer, *shape, **context):
    """What is opened of a layer's call."""
    spec = keras.KerasTensor((None, *shape))
    return opened(layer, (spec,), {}, **context)


class Of(layers.Layer):
    """A function of a layer, called as a layer."""

    def __init__(self, inner, function, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.function = inner, function

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs):
        return self.function(self, inputs)


def numpy(x):
    return ops.convert_to_numpy(x).astype("float64")


class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.block = awkward.Block(kv.VarianceDense(4))
        self.other = awkward.Block(kv.VarianceDense(4, posterior="additive"))

    def call(self, inputs, training=None):
        x = self.block(inputs, training=training)
        return self.other(ops.flip(x, axis=-1), training=training)


@pytest.mark.parametrize("make", [Model, lambda: model_of(Model(), 4)])
def test_samples_are_calls(make, rng):
    model, x = make(), features(rng, 4)
    model(x)
    calls = backends.repeated(lambda: model(x), DRAWS)
    draws = numpy(ensemble(model, DRAWS, shared_noise=False, seed=0)(x))
    assert_same_moments(np.moveaxis(draws, 1, 0), calls)
    shared = numpy(ensemble(model, DRAWS, seed=0)(x))
    assert_same_moments(np.moveaxis(shared, 1, 0), calls)


def test_dropout_inside(rng):
    model, x = model_of(awkward.Block(kv.VarianceDense(4)), 4), features(rng, 4)
    calls = backends.repeated(lambda: model(x, training=True), DRAWS)
    draws = numpy(ensemble(model, DRAWS, dropout=True, seed=0)(x))
    assert_same_moments(np.moveaxis(draws, 1, 0), calls)
    # The same layers, in the model itself
    block = model.layers[-1]
    h = block.last(block.dropout(ops.gelu(block.dense(block.norm(model.input)))))
    h = layers.Multiply()([h, ops.exp(block.log_scale)[None]])
    flat = keras.Model(model.input, layers.Add()([model.input, h]))
    for options in {}, {"dropout": True}:
        actual, expected = (
            kv.moment_predict(each, x, likelihood=None, verbose=0, **options)
            for each in (model, flat)
        )
        np.testing.assert_allclose(actual.mean, expected.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(actual.variance, expected.variance, rtol=1e-5)


def test_dropout_of_a_subclassed_model(rng):
    model, x = Model(), features(rng, 4)
    model(x)
    calls = backends.repeated(lambda: model(x, training=True), DRAWS)
    draws = numpy(ensemble(model, DRAWS, dropout=True, seed=0)(x))
    assert_same_moments(np.moveaxis(draws, 1, 0), calls)


def test_dropout_that_cannot_be_seen(rng):
    class Recurrent(keras.Model):
        def __init__(self):
            super().__init__()
            self.lstm = layers.LSTM(4, dropout=0.5)
            self.dense = kv.VarianceDense(2)

        def call(self, inputs):
            return self.dense(self.lstm(inputs))

    model, x = Recurrent(), features(rng, 5, 4)
    model(x)
    with pytest.raises(ValueError, match="has dropout inside that cannot be inspected"):
        ensemble(model, 2, dropout=True)(x)


def test_dropout_that_is_always_on(rng):
    """What a layer says itself counts, as it does in a call."""

    def call(layer, x):
        return layer.inner(layer.drop(x, training=True))

    layer = Of(kv.VarianceDense(4, "relu"), call)
    layer.drop = layers.Dropout(0.5)
    model, x = model_of(layer, 4), features(rng, 4)
    model(x)
    calls = backends.repeated(lambda: model(x, training=False), DRAWS)
    draws = numpy(ensemble(model, DRAWS, seed=0)(x, training=False))
    assert_same_moments(np.moveaxis(draws, 1, 0), calls)


def test_weights_are_those_of_now(rng):
    """Also those that a layer computes with when its call is traced."""
    model, x, _ = awkward.block(rng)
    transform = ensemble(model, 2, seed=0)
    (block,) = (each for each in model.layers if each.name == "block")
    block.dense.kernel.assign(np.zeros((4, 4)))  # no noise
    for seed in range(2):
        value = np.random.default_rng(seed).normal(size=4)
        block.log_scale.assign(value)
        expected = model.predict(x, verbose=0)
        for outputs in (transform(x), transform.predict(x, verbose=0)):
            for sample in (0, 1):
                np.testing.assert_allclose(
                    numpy(outputs)[:, sample], expected, rtol=1e-5
                )


def test_training_through_it(rng):
    """Gradients reach every weight, and losses are there once."""
    model, x, y = awkward.block(rng, prior="ard", train_size=10)
    transform = kv.transforms.average(model, 2)
    before = [numpy(each) for each in model.trainable_variables]
    transform.compile("sgd", "sparse_categorical_crossentropy")
    transform.fit(x, y, verbose=0)
    moved = [
        np.abs(numpy(new) - old).max() > 0
        for new, old in zip(model.trainable_variables, before, strict=True)
    ]
    assert all(moved)
    assert len(transform.losses) == len(model.losses) == 1


REFUSED = {
    "a loss": lambda layer, x: [layer.add_loss(ops.sum(x)), layer.inner(x)][1],
    "a penalty": lambda layer, x: [
        layer.add_loss(ops.sum(layer.inner.kernel)),
        layer.inner(x),
    ][1],
    "an update": lambda layer, x: [layer.state.assign_add(1.0), layer.inner(x)][1],
    "a draw": lambda layer, x: layer.inner(
        x + keras.random.normal((4,), seed=layer.seeds)
    ),
    "a number of examples": lambda layer, x: layer.inner(
        ops.reshape(x, (ops.shape(x)[0], 4))
    ),
    "hidden dropout": lambda layer, x: layer.inner(
        ops.map(lambda row: layer.drop(row, training=True), x)
    ),
    "a loop": lambda layer, x: ops.map(lambda row: layer.inner(row[None])[0], x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_calls_that_do_more(name, rng):
    """They are made for each sample, as they are."""

    class Does(Of):
        def build(self, shape):
            super().build(shape)
            self.seeds = keras.random.SeedGenerator(0)
            self.drop = layers.Dropout(0.5) if "dropout" in name else None
            self.state = self.add_weight(shape=(), initializer="zeros")

    layer = Does(kv.VarianceDense(4, posterior=awkward.OFF), REFUSED[name])
    layer.build((None, 4))
    assert graph_of(layer, 4) is None
    assert not layer.losses and float(layer.state) == 0
    assert graph_of(Of(layer.inner, lambda layer, x: layer.inner(x)), 4) is not None


def test_layers_that_are_not_used():
    """Attention has a softmax and a dropout, which without a rate it does not call."""
    attention = layers.MultiHeadAttention(2, 3)
    spec = keras.KerasTensor((None, 5, 4))
    attention.build((None, 5, 4), (None, 5, 4))
    assert opened(attention, (spec, spec), {}) is not None


class Counting(keras.Model):
    """Its call does more than return its outputs."""

    def __init__(self):
        super().__init__()
        self.dense = kv.VarianceDense(3, "softmax", posterior="additive")
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.calls.assign_add(1.0)
        return self.dense(inputs)


def test_a_model_that_stays_closed(rng):
    model, x = Counting(), features(rng, 4)
    calls = np.stack([numpy(model(x)) for _ in range(500)])
    draws = numpy(ensemble(model, 500, seed=0)(x))
    assert_same_moments(np.moveaxis(draws, 1, 0), calls)
    for transform, message in (
        (kv.transforms.propagate_mean, "'counting' has variance layers inside"),
        (kv.transforms.zero_mean, "'counting' has variance layers inside"),
        (
            lambda m: propagate_moments(m, None),
            "'counting' of class.* no rule",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            transform(model)(x)
    before = numpy(model.dense.kernel)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    callback = kv.callbacks.MCPredict(x, np.zeros(3), 2)
    with pytest.raises(ValueError, match="'counting' has variance layers inside"):
        model.fit(x, np.zeros(3), verbose=0, callbacks=[callback])
    np.testing.assert_array_equal(numpy(model.dense.kernel), before)


def test_what_is_not_of_single_precision():
    layer = awkward.Block(kv.VarianceDense(4), dtype="mixed_bfloat16")
    layer.build((None, 4))
    assert graph_of(layer, 4) is None


class Masked(Of):
    """What it does depends on the mask."""

    def call(self, inputs):
        mask, x = _keras.get_mask(inputs), self.inner(inputs)
        return x if mask is None else x * ops.cast(mask, x.dtype)[..., None]


def test_masks_inside(rng):
    """A layer that has a mask is called as it is."""
    x = keras.Input((5,), dtype="int32")
    h = layers.Embedding(7, 4, mask_zero=True)(x)
    layer = Masked(kv.VarianceDense(4, posterior=awkward.OFF), None)
    layer.supports_masking = True
    model = keras.Model(x, layers.Flatten()(layer(h) + 0.0))
    tokens = rng.integers(1, 7, size=(3, 5))
    tokens[0, 2:] = 0
    actual = numpy(ensemble(model, 2)(tokens))[:, 1]
    np.testing.assert_allclose(actual, numpy(model(tokens)), rtol=1e-5, atol=1e-6)
    assert (actual == 0).any()


def test_no_rule_inside():
    layer = Of(
        kv.VarianceDense(4), lambda layer, x: ops.sort(layer.inner(x)), name="of"
    )
    with pytest.raises(ValueError, match=r"In layer 'of': 'sort.*Received"):
        propagate_moments(model_of(layer, 4))


def test_layers_in_layers_in_layers(rng):
    """In `predict`, too, where JAX gives variables other values."""
    blocks = [awkward.Block(kv.VarianceDense(4)) for _ in range(2)]

    def call(layer, x):
        return layer.other(layer.inner(x)) if layer.other else layer.inner(x)

    inner, outer = Of(blocks[0], call), Of(blocks[1], call)
    inner.other, outer.other = None, inner
    model, x = model_of(outer, 4), features(rng, 4)
    assert graph_of(outer, 4) is not None
    kv.layers.variance_layers(model)[1].kernel.assign(np.zeros((4, 4)))
    eager = propagate_moments(model, likelihood=None, statistics=True)(x)
    predicted = kv.moment_predict(model, x, likelihood=None, verbose=0)
    np.testing.assert_allclose(predicted.mean, numpy(eager["mean"]), rtol=1e-5)
    np.testing.assert_allclose(predicted.variance, numpy(eager["variance"]), rtol=1e-5)
    draws = kv.mc_predict(model, x, 200, seed=0, verbose=0)
    np.testing.assert_allclose(draws.mean, predicted.mean, rtol=0.1, atol=0.1)
