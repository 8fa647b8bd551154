import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.layers import effective_kernel
from keras_variance.transforms import from_deterministic
from tests.layers.cases import CASES, activation, inputs

POSTERIORS = ("layer_alpha", "neuron_alpha", "weight_alpha", "additive")


def network():
    inner = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(5), keras.layers.ReLU()]
    )
    x = keras.Input((6, 6, 2))
    h = keras.layers.Conv2D(3, 3, activation="relu", name="convolution")(x)
    h = keras.layers.Flatten()(keras.layers.BatchNormalization()(h))
    h = keras.layers.Dense(5, use_bias=False, name="hidden")(h)
    return keras.Model(x, keras.layers.Dense(3, name="last")(inner(inner(h)) + h))


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_predictions_stay_close(posterior, rng):
    model = network()
    x = rng.normal(size=(20, 6, 6, 2)).astype("float32")
    result = from_deterministic(model, posterior, prior="log_uniform", train_size=20)
    layers = kv.layers.variance_layers(result)
    assert len(layers) == 4
    np.testing.assert_allclose(np.mean(np.asarray(layers[0].log_alpha)), -5, atol=3)
    expected = np.asarray(model(x))
    error = np.asarray(result(x)) - expected
    assert 0 < np.std(error) < 0.3 * np.std(expected)  # of 8 % in each of four layers


@pytest.mark.parametrize("name", CASES)
def test_every_layer(name, rng):
    case = CASES[name]
    stock = case.stock(**case.arguments, **activation(case, "tanh"))
    model = keras.Sequential([keras.Input(case.input_shape), stock])
    posterior = kv.posteriors.WeightAlpha(initial_log_alpha=-60)
    result = from_deterministic(model, posterior)
    assert type(result.layers[-1]) is case.layer
    np.testing.assert_array_equal(result.layers[-1].kernel, effective_kernel(stock))
    x = inputs(case, rng)
    np.testing.assert_allclose(result(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_kernel_of_zeros(posterior):
    """Additive noise, which can be trained, is little, and not none."""
    layer = keras.layers.Dense(3, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((4,)), layer])
    result = from_deterministic(model, posterior)
    np.testing.assert_allclose(result(np.ones((2, 4))), 0, atol=0.1)
    if posterior == "additive":
        np.testing.assert_allclose(result.layers[-1].phi, -10, rtol=1e-6)


def test_chosen_layers():
    model = network()
    for layers in (["hidden"], [model.get_layer("hidden")]):
        result = from_deterministic(model, layers=layers)
        found = kv.layers.variance_layers(result)
        assert [layer.name for layer in found] == ["hidden"]


def test_trains(rng):
    model = from_deterministic(network(), prior="ard", train_size=20)
    model.compile("adam", "mse")
    model.fit(rng.normal(size=(20, 6, 6, 2)), rng.normal(size=(20, 3)), verbose=0)
    assert len(model.losses) == 4


@pytest.fixture(scope="module")
def digits():
    """A trained network, its images and labels."""
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    hidden = keras.layers.Dense(64, "relu")
    model = keras.Sequential(
        [keras.Input((64,)), hidden, keras.layers.Dense(10, "softmax")]
    )
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    x = x.astype("float32") / 16
    model.fit(x, y, epochs=20, batch_size=64, verbose=0)
    return model, x, y


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_moped(posterior, digits):
    """With the default posterior and a prior around the trained weights, a network
    predicts as before; the KL divergence pulls weights back to where they were."""
    model, x, y = digits
    prior = kv.priors.Normal(0.1, mean="initial")
    result = from_deterministic(model, posterior, prior=prior, train_size=1)
    prediction = kv.mc_predict(result, x, samples=20, verbose=0)
    accuracy = np.mean(np.argmax(prediction.mean, -1) == y)
    before = np.mean(np.argmax(model.predict(x, verbose=0), -1) == y)
    assert before > 0.95 and abs(accuracy - before) < 0.002
    start = [np.array(layer.kernel) for layer in model.layers]
    for layer, kernel in zip(result.layers, start, strict=True):
        layer.kernel.assign(2 * kernel)
        layer.phi.trainable = False
    result.compile(keras.optimizers.SGD(1e-3), loss=lambda y, p: 0.0 * p)
    result.fit(x[:1], y[:1], epochs=20, verbose=0)
    for layer, kernel in zip(result.layers, start, strict=True):
        distance = np.linalg.norm(np.asarray(layer.kernel) - kernel)
        assert distance < 0.5 * np.linalg.norm(kernel)


def test_bad_input():
    model = network()
    with pytest.raises(ValueError, match=r"'hidden'.*'last'.*: layers=\['a'\]"):
        from_deterministic(model, layers=["a"])
    with pytest.raises(ValueError, match=r"Received: layers=\[\]"):
        from_deterministic(model, layers=[])
    with pytest.raises(ValueError, match=r"has means.*posterior='zero_mean'"):
        from_deterministic(model, "zero_mean")
    with pytest.raises(ValueError, match=r"'zero_mean'.*Received: posterior="):
        from_deterministic(model, kv.posteriors.ZeroMean())
    with pytest.raises(ValueError, match="Sequential or a Functional"):
        from_deterministic(kv.transforms.ensemble, prior="ard")
    empty = keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])
    with pytest.raises(ValueError, match=r"this model's \[\].*Received: layers=None"):
        from_deterministic(empty)
