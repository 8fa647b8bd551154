"""Layers in small, and every valid combination of their families."""

from typing import NamedTuple

import keras
import numpy as np

import keras_variance as kv
from tests import backends


class Case(NamedTuple):
    layer: type
    stock: type
    arguments: dict
    input_shape: tuple  # of one example
    tokens: int | None = None  # of which inputs are, and not numbers
    units: tuple = (-1,)  # axes of the outputs that index units
    weights: int = 2  # kernels and bias
    kernels: int = 1


CASES = {
    "dense": Case(kv.VarianceDense, keras.layers.Dense, {"units": 3}, (4,)),
    "conv1d": Case(
        kv.VarianceConv1D,
        keras.layers.Conv1D,
        {"filters": 2, "kernel_size": 3, "padding": "causal", "dilation_rate": 2},
        (6, 2),
    ),
    "conv2d": Case(
        kv.VarianceConv2D,
        keras.layers.Conv2D,
        {"filters": 4, "kernel_size": (2, 3), "strides": 2, "groups": 2},
        (5, 6, 4),
    ),
    "conv3d": Case(
        kv.VarianceConv3D,
        keras.layers.Conv3D,
        {"filters": 2, "kernel_size": 2, "padding": "same"},
        (2, 3, 2, 2),
    ),
    "conv1d_transpose": Case(
        kv.VarianceConv1DTranspose,
        keras.layers.Conv1DTranspose,
        {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"},
        (4, 3),
    ),
    "conv2d_transpose": Case(
        kv.VarianceConv2DTranspose,
        keras.layers.Conv2DTranspose,
        {"filters": 3, "kernel_size": 2, "strides": 2},
        (2, 3, 2),
    ),
    "conv3d_transpose": Case(
        kv.VarianceConv3DTranspose,
        keras.layers.Conv3DTranspose,
        {"filters": 2, "kernel_size": 2, "strides": (1, 2, 2)},
        (2, 2, 1, 3),
    ),
    "depthwise_conv1d": Case(
        kv.VarianceDepthwiseConv1D,
        keras.layers.DepthwiseConv1D,
        {"kernel_size": 3, "strides": 2, "padding": "same"},
        (5, 3),
    ),
    "depthwise_conv2d": Case(
        kv.VarianceDepthwiseConv2D,
        keras.layers.DepthwiseConv2D,
        {"kernel_size": 2, "depth_multiplier": 2},
        (3, 4, 3),
    ),
    "einsum_heads": Case(
        kv.VarianceEinsumDense,
        keras.layers.EinsumDense,
        {
            "equation": "abc,cde->abde",
            "output_shape": (None, 2, 3),
            "bias_axes": "de",
        },
        (2, 3),
        units=(-2, -1),
    ),
    "einsum_ellipsis": Case(
        kv.VarianceEinsumDense,
        keras.layers.EinsumDense,
        {"equation": "abc...,cbd->adb...", "output_shape": (2, 3), "bias_axes": "b"},
        (3, 2, 2),
        units=(2, 1),
    ),
    "einsum_summed": Case(
        kv.VarianceEinsumDense,
        keras.layers.EinsumDense,
        {"equation": "...bcd,dc->...c", "output_shape": 4, "bias_axes": "c"},
        (2, 3, 4, 2),
    ),
    "embedding": Case(
        kv.VarianceEmbedding,
        keras.layers.Embedding,
        {"input_dim": 4, "output_dim": 3},
        (5,),
        tokens=4,
        weights=1,
    ),
}
# Outputs are not linear in all weights together
TWO_KERNELS = {
    "separable_conv1d": Case(
        kv.VarianceSeparableConv1D,
        keras.layers.SeparableConv1D,
        {"filters": 2, "kernel_size": 3, "dilation_rate": 2, "padding": "same"},
        (5, 3),
        weights=3,
        kernels=2,
    ),
    "separable_conv2d": Case(
        kv.VarianceSeparableConv2D,
        keras.layers.SeparableConv2D,
        {"filters": 3, "kernel_size": 2, "strides": 2, "depth_multiplier": 2},
        (3, 5, 2),
        weights=3,
        kernels=2,
    ),
}
EVERY = CASES | TWO_KERNELS
POSTERIORS = tuple(kv.posteriors.MEMBERS)
ESTIMATORS = tuple(kv.estimators.MEMBERS)
NOISE_ESTIMATORS = tuple(
    (noise, estimator)
    for noise in kv.noises.MEMBERS
    for estimator in ESTIMATORS
    if noise == "gaussian" or estimator != "local_reparameterization"
)


def activation(case, name):
    """An activation among the arguments, of layers that have one."""
    return {} if case.tokens else {"activation": name}


def build(case, rng, **arguments):
    """A built layer with random θ, φ and bias."""
    layer = case.layer(**case.arguments, **arguments)
    layer.build((None, *case.input_shape))
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def inputs(case, rng, rows=2):
    if case.tokens:
        return rng.integers(case.tokens, size=(rows, *case.input_shape)).astype("int32")
    return rng.normal(size=(rows, *case.input_shape)).astype("float32")


def jacobian(case, x):
    """d outputs / d kernel of the stock layer, (*outputs, weights).

    Found by brute force, from the outputs with one weight at 1, the others 0.
    """
    stock = case.stock(**case.arguments)
    stock.build(x.shape)
    kernel = stock.weights[0]  # a new bias is 0
    size = int(np.prod(kernel.shape))
    columns = []
    for unit in np.eye(size, dtype="float32"):
        kernel.assign(unit.reshape(kernel.shape))
        columns.append(np.asarray(stock(x)))
    return np.stack(columns, axis=-1).astype("float64")


def without_bias(layer, outputs):
    """Outputs of a layer less its bias."""
    outputs = np.asarray(outputs)
    return outputs if layer.bias is None else outputs - np.asarray(layer.bias)


def sample(layer, x, draws):
    """Outputs of that many calls, (draws, *outputs), in one compiled function."""
    return backends.repeated(lambda: layer(x), draws)
