"""Small models of every shape that the transforms know."""

import keras
import numpy as np

import keras_variance as kv


def sequential(**arguments):
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, activation="relu"),
            kv.VarianceDense(3, **arguments),
        ]
    )


def stacked(**arguments):
    """Two variance layers in a row, and what is not linear between them."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            kv.VarianceDense(5, **arguments),
            keras.layers.ReLU(),
            kv.VarianceDense(3, **arguments),
        ]
    )


def residual(**arguments):
    """A deterministic and a stochastic branch, merged by a layer and by an operator."""
    x = keras.Input((4,))
    h = keras.layers.Dense(4)(x)
    stochastic = kv.VarianceDense(4, **arguments)(h)
    merged = keras.layers.Concatenate()([h, stochastic + h])
    return keras.Model(x, keras.layers.Dense(3)(merged))


def shared(**arguments):
    """A layer that is called on a deterministic input, and on samples."""
    layer = kv.VarianceDense(4, **arguments)
    x = keras.Input((4,))
    return keras.Model(x, keras.layers.Dense(3)(layer(keras.layers.ReLU()(layer(x)))))


def nested(**arguments):
    """A model in a model, called twice."""
    inner = keras.Sequential(
        [keras.Input((4,)), kv.VarianceDense(4, **arguments), keras.layers.ReLU()]
    )
    x = keras.Input((4,))
    return keras.Model(x, keras.layers.Dense(3)(inner(inner(x)) + x))


def multiple(**arguments):
    """Several inputs and outputs, one of them deterministic."""
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    h = keras.layers.Dense(4)(keras.layers.Concatenate()([a, b]))
    outputs = {"random": kv.VarianceDense(3, **arguments)(h), "fixed": h}
    return keras.Model({"a": a, "b": b}, outputs)


def convolutional(**arguments):
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(3, 3),
            kv.VarianceConv2D(4, 3, **arguments),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            kv.VarianceDense(3, **arguments),
        ]
    )


class Subclassed(keras.Model):
    def __init__(self, **arguments):
        super().__init__()
        self.first = kv.VarianceDense(5, **arguments)
        self.second = kv.VarianceDense(3, **arguments)

    def call(self, inputs):
        return self.second(keras.ops.relu(self.first(inputs)))


def subclassed(**arguments):
    model = Subclassed(**arguments)
    model(np.ones((1, 4)))
    return model


def hidden(**arguments):
    """A variance layer inside of a layer that is no model."""
    inner = keras.layers.TimeDistributed(kv.VarianceDense(3, **arguments))
    layers = [keras.Input((4,)), kv.VarianceDense(4, **arguments)]
    return keras.Sequential([*layers, keras.layers.Reshape((2, 2)), inner])


WALKED = {
    each.__name__: each
    for each in (
        sequential,
        stacked,
        residual,
        shared,
        nested,
        multiple,
        convolutional,
    )
}
ALL = WALKED | {"subclassed": subclassed, "hidden": hidden}


def new(name, rng, **arguments):
    """A model with random weights, and random inputs of 3 rows."""
    model = ALL[name](**arguments)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) / 2)
    if name == "multiple":
        x = {"a": rng.normal(size=(3, 4)), "b": rng.normal(size=(3, 2))}
    else:
        shape = (6, 6, 2) if name == "convolutional" else (4,)
        x = rng.normal(size=(3, *shape))
    return model, keras.tree.map_structure(lambda each: each.astype("float32"), x)
