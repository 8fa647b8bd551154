import keras
import numpy as np
import pytest
from keras import tree

import keras_variance as kv
from keras_variance.transforms import draw
from tests.layers.cases import CASES, POSTERIORS, build, inputs
from tests.statistics import assert_moments
from tests.transforms.models import WALKED, new

DRAWS = 400


@pytest.mark.parametrize("noise", kv.noises.MEMBERS)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_kernels_have_the_layers_moments(posterior, noise, rng):
    layer = build(CASES["dense"], rng, posterior=posterior, noise=noise)
    model = keras.Sequential([keras.Input((4,)), layer])
    kernels = [draw(model, seed).layers[-1].kernel for seed in range(DRAWS)]
    mean = 0.0 if layer.kernel_mean is None else np.asarray(layer.kernel_mean)
    kurtosis = {"gaussian": 3.0, "bernoulli": 1.0, "uniform": 1.8}[noise]
    assert_moments(kernels, mean, np.square(layer.kernel_scale), kurtosis)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_outputs_have_the_layers_moments(posterior, rng):
    layer = build(CASES["dense"], rng, posterior=posterior)
    model = keras.Sequential([keras.Input((4,)), layer])
    x = inputs(CASES["dense"], rng)
    outputs = [np.asarray(draw(model, seed)(x)) for seed in range(DRAWS)]
    kernel_mean = np.zeros((4, 3)) if layer.kernel_mean is None else layer.kernel_mean
    mean = x @ np.asarray(kernel_mean) + np.asarray(layer.bias)
    assert_moments(outputs, mean, np.square(x) @ np.square(layer.kernel_scale))


@pytest.mark.parametrize("name", CASES)
def test_every_layer_becomes_its_stock_layer(name, rng):
    """Without variance it computes the same."""
    case = CASES[name]
    layer = build(case, rng, posterior="additive", activation="tanh")
    layer.phi.assign(np.full(layer.phi.shape, -80.0))
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
