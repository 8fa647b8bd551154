import warnings

import keras
import numpy as np
import pytest
from keras import tree

import keras_variance as kv
from keras_variance.transforms import ensemble, propagate_mean, zero_mean
from tests.layers.cases import ESTIMATORS, EVERY, activation, build, inputs
from tests.statistics import assert_moments, assert_same_moments
from tests.transforms.models import WALKED, new
from tests.transforms.test_ensemble import separate_calls


@pytest.mark.parametrize("name", EVERY)
def test_mean_of_a_layer(name, rng):
    """The stock layer with θ as its kernel."""
    case = EVERY[name]
    layer = build(case, rng, posterior="layer_alpha", **activation(case, "tanh"))
    model = keras.Sequential([keras.Input(case.input_shape), layer])
    stock = case.stock(**case.arguments, **activation(case, "tanh"))
    stock.build((None, *case.input_shape))
    stock.set_weights(layer.get_weights()[: case.weights])
    x = inputs(case, rng)
    np.testing.assert_allclose(propagate_mean(model)(x), stock(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WALKED)
def test_mean_without_variance_is_the_source(name, rng):
    model, x = new(name, rng, posterior="additive")
    for layer in kv.layers.variance_layers(model):
        layer.phi.assign(np.full(layer.phi.shape, -80.0))

    def check(actual, expected):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

    tree.map_structure(check, propagate_mean(model)(x), model(x))


def test_mean_is_deterministic_and_follows_the_source(rng):
    model, x = new("stacked", rng, posterior="layer_alpha")
    mean = propagate_mean(model)
    first = np.asarray(mean(x))
    np.testing.assert_array_equal(first, mean(x))
    model.layers[-1].kernel.assign(2 * model.layers[-1].kernel)
    assert not np.allclose(first, mean(x))


def test_mean_of_zero_mean_layers_warns_once(rng):
    model, x = new("stacked", rng)
    with pytest.warns(
        UserWarning, match="do not depend on the layers' inputs"
    ) as caught:
        mean = propagate_mean(model)
    assert len(caught) == 1
    outputs = np.asarray(mean(x))
    np.testing.assert_array_equal(outputs, np.broadcast_to(outputs[0], outputs.shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        propagate_mean(new("stacked", rng, posterior="additive")[0])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", EVERY)
def test_zero_mean_of_a_layer(name, estimator, rng):
    """A variance layer with the standard deviations as its θ."""
    case = EVERY[name]
    layer = build(case, rng, posterior="weight_alpha", estimator=estimator)
    target = case.layer(**case.arguments, estimator=estimator)
    target.build((None, *case.input_shape))
    scales = [weight.scale for weight in layer.random_weights]
    target.set_weights([*scales, *layer.get_weights()[case.kernels : case.weights]])
    model = keras.Sequential([keras.Input(case.input_shape), layer])
    x = inputs(case, rng)
    actual, expected = separate_calls(zero_mean(model), x), separate_calls(target, x)
    assert_same_moments(actual, expected)
    if name == "dense":
        variance = np.square(x) @ np.square(layer.kernel_scale)
        assert_moments(actual - np.asarray(layer.bias), 0.0, variance)


@pytest.mark.parametrize("name", WALKED)
def test_zero_mean_of_zero_mean_is_the_source(name, rng):
    model, x = new(name, rng)
    tree.map_structure(
        assert_same_moments,
        separate_calls(zero_mean(model), x),
        separate_calls(model, x),
    )


@pytest.mark.filterwarnings("ignore:All weights")
@pytest.mark.parametrize("transform", [propagate_mean, zero_mean])
def test_subclassed(transform, rng):
    """As the same layers in a Functional model."""
    model, x = new("subclassed", rng)
    inputs = keras.Input((4,))
    same = keras.Model(inputs, model.call(inputs))
    tree.map_structure(
        assert_same_moments,
        separate_calls(transform(model), x),
        separate_calls(transform(same), x),
    )


@pytest.mark.parametrize("transform", [propagate_mean, zero_mean, kv.transforms.draw])
def test_bad_models(transform, rng):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"with variance layers.*Received: model="):
        transform(model)
    arguments = {"posterior": "additive"}
    if transform is kv.transforms.draw:
        subclassed, _ = new("subclassed", rng, **arguments)
        with pytest.raises(ValueError, match=r"or a Functional.*Received: model="):
            transform(subclassed)
    hidden, _ = new("hidden", rng, **arguments)
    with pytest.raises(ValueError, match="'time_distributed' has variance layers"):
        transform(hidden)


def test_inputs_by_name(rng):
    """Of a variance layer, and of attention whose inputs are named in another order."""
    x = keras.Input((3, 4))
    h = kv.VarianceDense(4, posterior="additive")(inputs=x)
    attention = kv.VarianceWrapper(keras.layers.MultiHeadAttention(2, 3))
    named = keras.Model(x, attention(value=h, query=x))
    positional = keras.Model(x, attention(x, h))
    row = rng.normal(size=(2, 3, 4)).astype("float32")
    for transform in (propagate_mean, lambda m: ensemble(m, 3, seed=1)):
        result, expected = (transform(each)(row) for each in (named, positional))
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(result),
            keras.ops.convert_to_numpy(expected),
            rtol=1e-5,
            atol=1e-6,
        )
