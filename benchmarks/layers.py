"""Train steps of each layer over its stock one, and ensembles of larger networks.

    python -m benchmarks.layers [--repeats 30]

First models of a single layer, batch 32, trained by `train_on_batch`: the stock layer,
and what `transforms.replace` makes of it with zero mean and with an additive posterior.
Then one deterministic pass against an ensemble of 20 samples: ResNet-20 and a tiny
vision transformer on 32×32, and MobileNetV2 on 224×224 with 1,000 classes, the last
layer alone stochastic, and all layers of the first two; and the first of these in a
subclassed model. Each group is timed in turn; printed are medians and ratios, on any
backend.
"""

import argparse

import keras
import numpy as np
from keras import layers

import keras_variance as kv
from benchmarks.timing import compiled, environment, report

BATCH, ROWS, SAMPLES = 32, 32, 20
WORDS = 10_000
POSTERIORS = "zero_mean", "additive"
# Stock layer, and the shape of its inputs
LAYERS = {
    "Conv1DTranspose": (layers.Conv1DTranspose, (64, 5), (128, 64)),
    "Conv3DTranspose": (layers.Conv3DTranspose, (16, 3), (12, 12, 12, 16)),
    "DepthwiseConv1D": (layers.DepthwiseConv1D, (9,), (1024, 64)),
    "DepthwiseConv2D": (layers.DepthwiseConv2D, (5,), (32, 32, 64)),
    "SeparableConv1D": (layers.SeparableConv1D, (64, 9), (1024, 64)),
    "SeparableConv2D": (layers.SeparableConv2D, (64, 3), (32, 32, 64)),
    "EinsumDense": (layers.EinsumDense, ("btc,cd->btd", (64, 512)), (64, 512)),
    "Embedding": (layers.Embedding, (WORDS, 256), (128,)),
    "SimpleRNN": (layers.SimpleRNN, (256,), (32, 128)),
    "LSTM": (layers.LSTM, (256,), (32, 128)),
    "GRU": (layers.GRU, (256,), (32, 128)),
    "MultiHeadAttention": (layers.MultiHeadAttention, (8, 32), (64, 256)),
}


def single(layer, shape):
    """A model of a layer alone; attention is of its inputs to themselves."""
    attention = isinstance(layer, layers.MultiHeadAttention)
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs, inputs) if attention else layer(inputs))


def step(model, x):
    """A function that trains a model on a batch once."""
    model.compile("adam", "mse")
    y = np.zeros((len(x), *model.output_shape[1:]), "float32")
    return lambda: model.train_on_batch(x, y)


def report_step(name, repeats):
    kind, arguments, shape = LAYERS[name]
    stock = single(kind(*arguments), shape)
    x = np.random.normal(size=(BATCH, *shape)).astype("float32")
    if kind is layers.Embedding:
        x = np.random.randint(0, WORDS, x.shape)
    steps = {name: step(stock, x)}
    for posterior in POSTERIORS:
        stochastic = kv.transforms.replace(stock, posterior, layers=kind)
        steps[posterior] = step(stochastic, x)
    report(f"{name}{arguments}, inputs {(BATCH, *shape)}", steps, repeats)


def resnet20(classes=10):
    """He et al. 2016, for CIFAR-10 (https://arxiv.org/abs/1512.03385)."""

    def convolution(x, filters, stride, size=3):
        x = layers.Conv2D(filters, size, stride, "same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(convolution(inputs, 16, 1))
    for number, filters in enumerate((16, 16, 16, 32, 32, 32, 64, 64, 64)):
        stride = 2 if number in (3, 6) else 1
        y = layers.ReLU()(convolution(x, filters, stride))
        y = convolution(y, filters, 1)
        x = convolution(x, filters, 2, 1) if stride == 2 else x
        x = layers.ReLU()(layers.add([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x))


def vit_tiny(classes=10, width=192, heads=3, depth=12):
    """Touvron et al. 2021, on patches of 4×4 (https://arxiv.org/abs/2012.12877)."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(width, 4, 4)(inputs)
    x = layers.Reshape((64, width))(x)
    for _ in range(depth):
        y = layers.LayerNormalization()(x)
        x = layers.add([x, layers.MultiHeadAttention(heads, width // heads)(y, y)])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(4 * width, "gelu")(y)
        x = layers.add([x, layers.Dense(width)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(classes)(x))


def mobilenet():
    """Its head has 1,000 classes."""
    return keras.applications.MobileNetV2(weights=None, classifier_activation=None)


class Subclassed(keras.Model):
    """A model of whose layers Keras has no graph."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)


RANDOM = layers.Dense, layers.Conv2D, layers.MultiHeadAttention
NETWORKS = {
    "ResNet-20": (resnet20, {"last": "last", "all": RANDOM}),
    "tiny vision transformer": (vit_tiny, {"last": "last", "all": RANDOM}),
    "MobileNetV2": (mobilenet, {"last": "last"}),
}


def report_ensembles(name, repeats):
    build, rows = NETWORKS[name]
    model = build()
    x = keras.random.uniform((ROWS, *model.input_shape[1:]))
    functions = {"one deterministic pass": compiled(model)}
    for posterior in POSTERIORS:
        for which, chosen in rows.items():
            stochastic = kv.transforms.replace(model, posterior, layers=chosen)
            ensemble = kv.transforms.ensemble(stochastic, SAMPLES)
            functions[f"{posterior}, {which}"] = compiled(ensemble)
    model = Subclassed(kv.transforms.replace(model, "zero_mean", layers="last"))
    model(x)
    ensemble = kv.transforms.ensemble(model, SAMPLES)
    functions["zero_mean, last, subclassed"] = compiled(ensemble)
    report(f"{name}, {ROWS} images, {SAMPLES} samples", functions, repeats, x)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args(arguments).repeats
    keras.utils.set_random_seed(0)
    print(environment())
    for name in LAYERS:
        report_step(name, repeats)
    for name in NETWORKS:
        report_ensembles(name, max(1, repeats // 5))


if __name__ == "__main__":
    main()
