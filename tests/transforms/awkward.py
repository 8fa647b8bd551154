"""Awkward models: a new transform, predictor or metric has to take each of them.

Each function returns a compiled model, inputs, and labels in the structure of the
model's outputs. Its arguments are those of the variance layers.
"""

import keras
import numpy as np
from keras import ops

import keras_variance as kv

layers = keras.layers
ROWS = 4
# log σ² of weights without noise
OFF = kv.posteriors.Additive(initial_log_variance=-80.0)
POLICIES = ("mixed_float16", "float16", "bfloat16", "float64")


def features(rng, *shape):
    return rng.normal(size=(ROWS, *shape)).astype("float32")


def classes(rng, *shape, count=3):
    return rng.integers(0, count, size=(ROWS, *shape))


def compiled(model, loss="sparse_categorical_crossentropy"):
    model.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=True)
    return model


def nested_names(rng, **arguments):
    """Two nested models, and the model itself, with a layer "dense" each."""

    def block(name):
        dense = kv.VarianceDense(4, "relu", name="dense", **arguments)
        return keras.Sequential([keras.Input((4,)), dense], name=name)

    x = keras.Input((4,), name="x")
    h = block("decoder")(block("encoder")(x))
    y = kv.VarianceDense(3, "softmax", name="dense", **arguments)(h)
    return compiled(keras.Model(x, y)), features(rng, 4), classes(rng)


def shared_nested(rng, **arguments):
    """A nested model that is called twice, and a layer in it that is, too."""
    a = keras.Input((4,))
    dense = kv.VarianceDense(4, **arguments)
    inner = keras.Model(a, dense(layers.ReLU()(dense(a))))
    x = keras.Input((4,))
    y = layers.Dense(3, "softmax")(inner(inner(x)) + x)
    return compiled(keras.Model(x, y)), features(rng, 4), classes(rng)


def frozen_nested(rng, **arguments):
    """A nested model that is called with `training=False`: for transfer learning."""
    inner = keras.Sequential(
        [
            keras.Input((4,)),
            kv.VarianceDense(5, "relu", **arguments),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
        ]
    )
    x = keras.Input((4,))
    y = kv.VarianceDense(3, "softmax", **arguments)(inner(x, training=False))
    return compiled(keras.Model(x, y)), features(rng, 4), classes(rng)


def dict_inputs(rng, **arguments):
    """Two inputs by name, one of which meets the noise late."""
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    h = layers.Concatenate()([kv.VarianceDense(3, **arguments)(a), b])
    model = keras.Model({"b": b, "a": a}, layers.Dense(3, "softmax")(h))
    return compiled(model), {"a": features(rng, 4), "b": features(rng, 2)}, classes(rng)


def two_heads(rng, **arguments):
    """Lists of inputs and of outputs: a class and a number."""
    a, b = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    h = kv.VarianceDense(4, "relu", **arguments)(layers.Concatenate()([a, b]))
    label = layers.Dense(3, "softmax", name="label")(h)
    size = kv.VarianceDense(2, name="size", **arguments)(h)
    model = keras.Model([a, b], [label, size])
    losses = ["sparse_categorical_crossentropy", "mse"]
    x = [features(rng, 4), features(rng, 2)]
    return compiled(model, losses), x, [classes(rng), features(rng, 2)]


def nested_dict(rng, **arguments):
    """A nested model with dicts of inputs and outputs; Keras keeps masks for it."""
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    outputs = {"s": kv.VarianceDense(3, **arguments)(a), "t": layers.Dense(3)(b)}
    inner = keras.Model({"a": a, "b": b}, outputs)
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    h = inner({"a": left, "b": right})
    model = keras.Model([left, right], layers.Softmax()(h["s"] + h["t"]))
    return compiled(model), [features(rng, 4), features(rng, 2)], classes(rng)


def attention(rng, **arguments):
    """A layer with samples among its keyword arguments."""
    x = keras.Input((5, 4))
    h = kv.VarianceDense(4, **arguments)(x)
    h = layers.MultiHeadAttention(2, 2)(x, value=h)
    model = keras.Model(x, layers.Dense(3, "softmax")(layers.Flatten()(h)))
    return compiled(model), features(rng, 5, 4), classes(rng)


def dict_outputs(rng, **arguments):
    """Outputs by name: classes, a binary logit, and what no noise reaches."""
    x = keras.Input((4,), name="x")
    h = layers.Dense(4, "relu")(x)
    outputs = {
        "kind": kv.VarianceDense(3, "softmax", **arguments)(h),
        "flag": kv.VarianceDense(1, **arguments)(h),
        "fixed": h,
    }
    losses = {
        "kind": "sparse_categorical_crossentropy",
        "flag": keras.losses.BinaryCrossentropy(from_logits=True),
        "fixed": "mse",
    }
    y = {
        "kind": classes(rng),
        "flag": classes(rng, 1, count=2),
        "fixed": features(rng, 4),
    }
    return compiled(keras.Model(x, outputs), losses), features(rng, 4), y


def sequential(rng, loss, last, y):
    hidden = [keras.Input((4,), name="x"), layers.Dense(5, "relu")]
    model = keras.Sequential([*hidden, *last])
    return compiled(model, loss), features(rng, 4), y


def sigmoid(rng, **arguments):
    """One unit; labels have no axis for it."""
    last = [kv.VarianceDense(1, "sigmoid", **arguments)]
    return sequential(rng, "binary_crossentropy", last, classes(rng, count=2))


def binary_logits(rng, **arguments):
    """Two binary variables; only the loss tells what the outputs are."""
    last = [kv.VarianceDense(2, **arguments)]
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return sequential(rng, loss, last, classes(rng, 2, count=2))


def regression(rng, **arguments):
    last = [kv.VarianceDense(1, **arguments)]
    return sequential(rng, "mse", last, features(rng, 1))


def heteroscedastic(rng, **arguments):
    """A mean and a log variance; only the loss tells what the outputs are."""
    last = [kv.VarianceDense(2, **arguments)]
    return sequential(rng, kv.losses.GaussianNLL(), last, features(rng))


def learned_noise(rng, **arguments):
    """Two numbers, whose noise is the same for all examples, and heavy tails."""
    last = [kv.VarianceDense(2, **arguments), kv.LearnedScale()]
    return sequential(rng, kv.losses.StudentTNLL(5.0), last, features(rng, 2))


def one_hot(rng, **arguments):
    last = [kv.VarianceDense(3, **arguments), layers.Softmax()]
    y = np.eye(3, dtype="float32")[classes(rng)]
    return sequential(rng, "categorical_crossentropy", last, y)


def mask_reader(rng, **arguments):
    """Padded sequences, averaged without their padding."""
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32", name="tokens"),
            kv.VarianceEmbedding(7, 4, mask_zero=True, **arguments),
            kv.VarianceDense(4, "relu", **arguments),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, "softmax"),
        ]
    )
    x = rng.integers(1, 7, size=(ROWS, 5)).astype("int32")
    x[0, 3:] = x[1, 1:] = x[2, 2] = 0
    return compiled(model), x, classes(rng)


def tokens(rng, **arguments):
    """Random vectors of tokens, and two heads that are merged again."""
    x = keras.Input((5,), dtype="int32")
    h = kv.VarianceEmbedding(7, 4, **arguments)(x)
    h = kv.VarianceEinsumDense(
        "btc,chd->bthd", (5, 2, 3), bias_axes="hd", activation="relu", **arguments
    )(h)
    h = layers.EinsumDense("bthd,hde->bte", (5, 4), bias_axes="e")(h)
    model = keras.Model(x, layers.Dense(3, "softmax")(layers.Flatten()(h)))
    return compiled(model), rng.integers(7, size=(ROWS, 5)), classes(rng)


def recurrent(rng, **arguments):
    """A layer with several random weights, and attention to what it returns."""
    wrapper = kv.VarianceWrapper(layers.LSTM(4, return_sequences=True), **arguments)
    x = keras.Input((5,), dtype="int32", name="tokens")
    h = wrapper(layers.Embedding(7, 4, mask_zero=True)(x))
    attention = kv.VarianceWrapper(layers.MultiHeadAttention(2, 2), **arguments)
    h = attention(h, value=h, use_causal_mask=True)
    y = layers.Dense(3, "softmax")(layers.GlobalAveragePooling1D()(h))
    tokens = rng.integers(1, 7, size=(ROWS, 5)).astype("int32")
    tokens[0, 3:] = tokens[1, 1:] = 0
    return compiled(keras.Model(x, y)), tokens, classes(rng)


@keras.saving.register_keras_serializable("tests")
class Gated(layers.Layer):
    """A variance layer inside of a layer whose call has two arguments."""

    def __init__(self, units, dense=None, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = dense or kv.VarianceDense(units)

    def build(self, inputs_shape, gate_shape):
        self.dense.build(inputs_shape)

    def call(self, inputs, gate):
        return self.dense(inputs) * gate


def two_arguments(rng, **arguments):
    x = keras.Input((4,))
    gate = layers.Dense(3, "sigmoid")(x)
    h = Gated(3, kv.VarianceDense(3, **arguments))(x, gate)
    model = keras.Model(x, layers.Softmax()(h))
    return compiled(model), features(rng, 4), classes(rng)


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """Layers inside of a layer with a variable that it computes with."""

    def __init__(self, dense=None, **kwargs):
        super().__init__(**kwargs)
        self.dense = dense or kv.VarianceDense(4)
        self.norm = layers.LayerNormalization()
        self.dropout = layers.Dropout(0.5)
        self.last = layers.Dense(4)

    def build(self, shape):
        for each in (self.norm, self.dense, self.dropout, self.last):
            each.build(shape)
        self.log_scale = self.add_weight(shape=(4,), initializer="random_normal")

    def call(self, inputs, training=None):
        x = ops.gelu(self.dense(self.norm(inputs)))
        x = self.last(self.dropout(x, training=training))
        return inputs + x * ops.exp(self.log_scale)


def block(rng, **arguments):
    x = keras.Input((4,))
    h = Block(kv.VarianceDense(4, **arguments), name="block")(x)
    model = keras.Model(x, layers.Dense(3, "softmax")(h))
    return compiled(model), features(rng, 4), classes(rng)


class Subclassed(keras.Model):
    def __init__(self, **arguments):
        super().__init__()
        self.first = kv.VarianceDense(5, **arguments)
        self.second = kv.VarianceDense(3, "softmax", **arguments)

    def call(self, inputs):
        return self.second(ops.relu(self.first(inputs)))


def subclassed(rng, **arguments):
    model, x = Subclassed(**arguments), features(rng, 4)
    model(x)
    return compiled(model), x, classes(rng)


def channels_first(rng, **arguments):
    """Channels on axis 1, for what runs so on any device."""
    model = keras.Sequential(
        [
            keras.Input((3, 4)),
            kv.VarianceDense(6, **arguments),
            layers.BatchNormalization(axis=1),
            layers.ReLU(),
            layers.AveragePooling1D(2, data_format="channels_first"),
            layers.GlobalAveragePooling1D(data_format="channels_first"),
            layers.Softmax(),
        ]
    )
    return compiled(model), features(rng, 3, 4), classes(rng)


def per_pixel(rng, **arguments):
    """A class for each pixel."""
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            kv.VarianceConv2D(4, 3, padding="same", activation="relu", **arguments),
            kv.VarianceConv2D(3, 1, activation="softmax", **arguments),
        ]
    )
    return compiled(model), features(rng, 4, 4, 2), classes(rng, 4, 4)


def application(rng, **arguments):
    """A network of `keras.applications`, its last convolution made stochastic."""
    network = keras.applications.MobileNet(
        (32, 32, 3), alpha=0.25, weights=None, classes=3, dropout=0.5
    )
    network.trainable = False
    arguments = {"posterior": "additive"} | arguments
    model = kv.transforms.replace(network, layers=["conv_preds"], **arguments)
    model.get_layer("conv_preds").trainable = True
    return compiled(model), features(rng, 32, 32, 3), classes(rng)


def policy(name):
    """A model in another precision, with what keeps single precision in it."""

    def build(rng, **arguments):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(name)
        try:
            model = keras.Sequential(
                [
                    keras.Input((4,)),
                    layers.Dense(5, "relu"),
                    kv.VarianceDense(5, **arguments),
                    layers.BatchNormalization(),
                    layers.ReLU(),
                    kv.VarianceDense(3, "softmax", **arguments),
                ]
            )
            return compiled(model), features(rng, 4), classes(rng)
        finally:
            keras.config.set_dtype_policy(before)

    return build


MODELS = {
    each.__name__: each
    for each in (
        nested_names,
        shared_nested,
        frozen_nested,
        dict_inputs,
        two_heads,
        nested_dict,
        attention,
        dict_outputs,
        sigmoid,
        binary_logits,
        regression,
        heteroscedastic,
        learned_noise,
        one_hot,
        mask_reader,
        tokens,
        recurrent,
        two_arguments,
        block,
        subclassed,
        channels_first,
        per_pixel,
        application,
    )
} | {name: policy(name) for name in POLICIES}

# What outputs mean, in their structure; "categorical" where nothing stands here
KINDS = {
    "two_heads": ["categorical", None],
    "dict_outputs": {"kind": "categorical", "flag": "bernoulli", "fixed": None},
    "sigmoid": "bernoulli",
    "binary_logits": "bernoulli",
    "regression": None,
    "heteroscedastic": "gaussian",
    "learned_noise": "student_t",
}


def new(name, rng, **arguments):
    """A model with random biases, inputs and labels; without noise by default."""
    model, x, y = MODELS[name](rng, **{"posterior": OFF} | arguments)
    for layer in kv.layers.variance_layers(model):
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(size=layer.bias.shape) / 4)
    return model, x, y
