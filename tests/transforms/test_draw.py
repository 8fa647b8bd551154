import keras
import numpy as np
import pytest
from keras import tree

import keras_variance as kv
from keras_variance.transforms import draw
from tests.layers.cases import (
    CASES,
    EVERY,
    POSTERIORS,
    activation,
    build,
    inputs,
)
from tests.statistics import assert_moments
from tests.transforms.models import WALKED, new

DRAWS = 4000


@pytest.mark.parametrize("noise", kv.noises.MEMBERS)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_kernels_have_the_layers_moments(posterior, noise, rng):
    """One draw of a layer with many equal weights."""
    layer = kv.VarianceDense(DRAWS, posterior=posterior, noise=noise, use_bias=False)
    model = keras.Sequential([keras.Input((4,)), layer])
    theta = rng.normal(size=(4, 1)) * np.ones((4, DRAWS))
    layer.kernel.assign(theta)
    if layer.phi is not None:
        layer.phi.assign(rng.normal() * np.ones(layer.phi.shape))
    kernel = np.asarray(draw(model, 1).layers[0].kernel).T
    mean = 0.0 if layer.kernel_mean is None else theta[:, 0]
    variance = np.square(layer.kernel_scale)[:, 0]
    kurtosis = {"gaussian": 3.0, "bernoulli": 1.0, "uniform": 1.8}[noise]
    assert_moments(kernel, mean, variance, kurtosis)


def test_draws_differ_and_repeat(rng):
    layer = build(CASES["dense"], rng, posterior="layer_alpha")
    model = keras.Sequential([keras.Input((4,)), layer])
    kernels = [np.asarray(draw(model, seed).layers[0].kernel) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.any(kernels[0] == kernels[2])
    x = inputs(CASES["dense"], rng)
    expected = x @ kernels[0] + np.asarray(layer.bias)
    np.testing.assert_allclose(draw(model, 1)(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_every_layer_becomes_its_stock_layer(name, rng):
    """Without variance it computes the same."""
    case = EVERY[name]
    layer = build(case, rng, posterior="additive", **activation(case, "tanh"))
    for phi in layer.phis:
        phi.assign(np.full(phi.shape, -80.0))
    model = keras.Sequential([keras.Input(case.input_shape), layer])
    drawn = draw(model)
    assert type(drawn.layers[-1]) is case.stock
    assert drawn.layers[-1].name == layer.name
    x = inputs(case, rng)
    np.testing.assert_allclose(drawn(x), model(x), rtol=1e-5, atol=1e-5)


def test_some_layers(rng):
    model = keras.Sequential(
        [keras.Input((4,)), kv.VarianceDense(3), kv.VarianceDense(2)]
    )
    first, second = model.layers
    drawn = draw(model, seed=1, layers=[first.name])
    assert type(drawn.layers[0]) is keras.layers.Dense
    assert type(drawn.layers[1]) is kv.VarianceDense
    assert drawn.layers[1] is not second
    np.testing.assert_array_equal(drawn.layers[1].kernel, second.kernel)
    with pytest.raises(ValueError, match=r"`layers` .* Received: layers=\['no'\]"):
        draw(model, layers=["no"])


@pytest.mark.parametrize("name", WALKED)
def test_stock_layers_only(name, rng):
    model, x = new(name, rng)
    drawn = draw(model, seed=1)
    assert not kv.layers.variance_layers(drawn)
    assert not any("keras_variance" in type(each).__module__ for each in drawn.layers)

    def equal_outputs(seed):
        outputs = tree.flatten(drawn(x)), tree.flatten(draw(model, seed)(x))
        return [np.array_equal(a, b) for a, b in zip(*outputs, strict=True)]

    assert all(equal_outputs(seed=1))
    assert not all(equal_outputs(seed=2))


def test_shared_layer_has_one_draw(rng):
    model, _ = new("shared", rng)
    drawn = draw(model)
    dense = [each for each in drawn.layers if isinstance(each, keras.layers.Dense)]
    assert len(dense) == 2  # the shared one, called twice, and the last
