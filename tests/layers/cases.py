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
    "conv2d_transpose": Case(
        kv.VarianceConv2DTranspose,
        keras.layers.Conv2DTranspose,
        {"filters": 3, "kernel_size": 2, "strides": 2},
        (2, 3, 2),
    ),
    "depthwise_conv2d": Case(
        kv.VarianceDepthwiseConv2D,
        keras.layers.DepthwiseConv2D,
        {"kernel_size": 2, "depth_multiplier": 2},
        (3, 4, 3),
    ),
}
POSTERIORS = tuple(kv.posteriors.MEMBERS)
ESTIMATORS = tuple(kv.estimators.MEMBERS)
NOISE_ESTIMATORS = tuple(
    (noise, estimator)
    for noise in kv.noises.MEMBERS
    for estimator in ESTIMATORS
    if noise == "gaussian" or estimator != "local_reparameterization"
)


def build(case, rng, **arguments):
    """A built layer with random θ, φ and bias."""
    layer = case.layer(**case.arguments, **arguments)
    layer.build((None, *case.input_shape))
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def inputs(case, rng, rows=2):
    return rng.normal(size=(rows, *case.input_shape)).astype("float32")


def jacobian(case, x):
    """d outputs / d kernel of the stock layer, (*outputs, weights).

    Found by brute force, from the outputs with one weight at 1, the others 0.
    """
    stock = case.stock(**case.arguments, use_bias=False)
    stock.build(x.shape)
    size = int(np.prod(stock.kernel.shape))
    columns = []
    for unit in np.eye(size, dtype="float32"):
        stock.kernel.assign(unit.reshape(stock.kernel.shape))
        columns.append(np.asarray(stock(x)))
    return np.stack(columns, axis=-1).astype("float64")


def sample(layer, x, draws):
    """Outputs of that many calls, (draws, *outputs), in one compiled function."""
    return backends.repeated(lambda: layer(x), draws)
