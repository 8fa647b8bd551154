"""Constants of NumPy in a model whose moments are propagated."""

import keras
import numpy as np
import pytest

import keras_variance as kv

C = np.array([1.0, -2.0, 3.0])  # of double precision

OPERATIONS = {
    "h + c": (lambda h: h + C, C, 1),
    "c + h": (lambda h: keras.ops.add(C, h), C, 1),
    "h - c": (lambda h: h - C, -C, 1),
    "c - h": (lambda h: keras.ops.subtract(C, h), C, -1),
    "h * c": (lambda h: h * C, 0, C),
    "h / c": (lambda h: h / C, 0, 1 / C),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_constants_of_double_precision(name, rng):
    operation, shift, factor = OPERATIONS[name]
    x = keras.Input((4,))
    layer = kv.VarianceDense(3, posterior="layer_alpha")
    h = layer(x)
    layer.bias.assign(rng.normal(size=3))
    inputs = rng.normal(size=(2, 4)).astype("float32")
    before, after = (
        kv.transforms.propagate_moments(keras.Model(x, y), None, statistics=True)(
            inputs
        )
        for y in (h, operation(h))
    )
    mean, variance = np.asarray(before["mean"]), np.asarray(before["variance"])
    np.testing.assert_allclose(after["mean"], factor * mean + shift, rtol=1e-5)
    np.testing.assert_allclose(
        after["variance"], np.square(factor) * variance, rtol=1e-5
    )
