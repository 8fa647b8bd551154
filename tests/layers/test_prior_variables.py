"""What a layer keeps for its prior: a learned scale, and the center."""

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.transforms import replace

LEARNED = kv.priors.Normal(0.5, learnable=True)
CENTERED = kv.priors.Normal(0.1, mean="initial")
X = np.ones((8, 4), "float32")


def zero(y, outputs):
    return 0.0 * outputs


def new(prior, posterior="weight_alpha", **arguments):
    layer = kv.VarianceDense(
        3, posterior=posterior, prior=prior, train_size=1, name="dense", **arguments
    )
    return keras.Sequential([keras.Input((4,)), layer]), layer


def names(layer):
    return [weight.name for weight in layer.trainable_weights]


def test_learned_scale():
    """At the optimum s² is the mean of μ² + σ², of the weights that are left."""
    model, layer = new(LEARNED, "additive", pruned=True)
    assert names(layer) == ["kernel", "bias", "log_variance", "prior_log_scale"]
    layer.keep(np.arange(12).reshape(4, 3) % 3 > 0)
    layer.kernel.trainable = layer.phi.trainable = False
    model.compile(keras.optimizers.SGD(0.02), zero)
    model.fit(X, np.zeros((8, 3)), epochs=200, verbose=0)
    square = np.square(layer.kernel_mean) + np.square(layer.kernel_scale)
    best = np.sum(np.float64(square)) / 8
    log_scale = float(layer.prior_variables["log_scale"])
    np.testing.assert_allclose(np.exp(2 * log_scale), best, rtol=1e-3)
    # There KL = ½ Σ log(s²/σ²), the least of any scale
    variance = np.square(np.float64(layer.kernel_scale))
    expected = np.sum(np.log(best / variance[variance > 0])) / 2
    np.testing.assert_allclose(layer.kl_divergence(), expected, rtol=1e-4)


def test_each_layer_has_its_own():
    layers = [kv.VarianceDense(4, prior=LEARNED, train_size=1) for _ in range(2)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    first, second = (layer.prior_variables["log_scale"] for layer in layers)
    assert first is not second and len(model.trainable_weights) == 6
    first.assign(0.0)
    np.testing.assert_allclose(second, np.log(0.5), rtol=1e-6)


def test_center_is_where_a_layer_starts():
    _, layer = new(CENTERED)
    center = layer.prior_variables["center"]
    start = np.array(layer.kernel)
    np.testing.assert_array_equal(center, start)
    assert names(layer) == ["kernel", "bias", "log_alpha"]
    layer.kernel.assign(start + 0.5)
    layer.phi.assign(np.full((4, 3), -60.0))
    distance = 12 * (0.5 / 0.1) ** 2 / 2
    narrow = layer.kl_divergence()
    layer.kernel.assign(start)
    np.testing.assert_allclose(narrow - layer.kl_divergence(), distance, rtol=0.1)


@pytest.mark.parametrize("posterior", ["weight_alpha", "additive"])
def test_first_built_in_fit(posterior):
    """Where Keras makes variables while it traces."""
    prior = kv.priors.Normal(0.1, mean="initial", learnable=True)
    layer = kv.VarianceDense(3, posterior=posterior, prior=prior, train_size=8)
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.SGD(0.0), zero)
    model.fit(X, np.zeros((8, 3)), verbose=0)
    np.testing.assert_array_equal(layer.prior_variables["center"], layer.kernel)
    assert np.std(np.asarray(layer.kernel)) > 0
    alpha = np.mean(np.square(layer.kernel_scale)) / np.mean(np.square(layer.kernel))
    np.testing.assert_allclose(alpha, np.exp(-5), rtol=1e-4)


def test_pulls_back_to_the_start():
    model, layer = new(CENTERED, "additive")
    start = np.array(layer.kernel)
    layer.kernel.assign(start + 1)
    model.compile(keras.optimizers.SGD(1e-3), zero)
    model.fit(X, np.zeros((8, 3)), epochs=100, verbose=0)
    np.testing.assert_allclose(layer.kernel, start, atol=1e-3)


def test_center_of_a_trained_model():
    """Is its kernel; training of the new model does not move it."""
    dense = keras.layers.Dense(3)
    source = keras.Sequential([keras.Input((4,)), dense])
    model = replace(source, prior=CENTERED, train_size=8)
    layer = model.layers[-1]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, np.zeros((8, 3)), verbose=0)
    np.testing.assert_array_equal(layer.prior_variables["center"], dense.kernel)
    assert not np.any(np.equal(layer.kernel, dense.kernel))


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "mixed_bfloat16"])
def test_half_precision(dtype):
    prior = kv.priors.Normal(0.1, mean="initial", learnable=True)
    for each in (prior, "scale_mixture", "normal"):
        _, layer = new(each, dtype=dtype)
        assert keras.backend.standardize_dtype(layer.losses[0].dtype) == "float32"
        arguments = {"initial_log_alpha": float(np.asarray(layer.phi).flat[0])}
        _, single = new(each, kv.posteriors.WeightAlpha(**arguments))
        single.kernel.assign(np.asarray(layer.kernel).astype("float32"))
        single.start_from_weights()
        kl = float(single.kl_divergence())
        np.testing.assert_allclose(layer.kl_divergence(), kl, rtol=1e-5)


def test_saving(tmp_path):
    """By name; a prior may come and go."""
    prior = kv.priors.Normal(0.1, mean="initial", learnable=True)
    model, layer = new(prior)
    layer.kernel.assign(np.full((4, 3), 2.0))
    layer.prior_variables["log_scale"].assign(0.25)
    model.save(tmp_path / "model.keras")
    store = {}
    layer.save_own_variables(store)
    assert sorted(store)[-2:] == ["prior_center", "prior_log_scale"]
    loaded = keras.models.load_model(tmp_path / "model.keras").layers[-1]
    for weight, other in zip(loaded.weights, layer.weights, strict=True):
        np.testing.assert_array_equal(weight, other)
    np.testing.assert_allclose(loaded.kl_divergence(), layer.kl_divergence())
    without, plain = new(None)
    without.load_weights(tmp_path / "model.keras")
    np.testing.assert_array_equal(plain.kernel, layer.kernel)
    # The weights of a file without a prior are where the layer starts
    without.save_weights(tmp_path / "plain.weights.h5")
    anew, centered = new(CENTERED)
    anew.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_array_equal(centered.prior_variables["center"], layer.kernel)


def test_shrink(rng):
    """What is left has the variables of what is left."""
    prior = kv.priors.Normal(0.1, mean="initial", learnable=True)
    arguments = {"posterior": "additive", "prior": prior, "train_size": 8}
    first = kv.VarianceDense(5, **arguments, use_bias=False)
    last = kv.VarianceDense(3, **arguments)
    model = keras.Sequential([keras.Input((4,)), first, last])
    first.prior_variables["log_scale"].assign(0.5)
    first.keep(np.arange(5) < 2)
    small = kv.transforms.shrink(model).layers[-2]
    assert small.kernel.shape == (4, 2)
    np.testing.assert_allclose(small.prior_variables["log_scale"], 0.5)
    center = np.asarray(first.prior_variables["center"])
    np.testing.assert_array_equal(small.prior_variables["center"], center[:, :2])
    np.testing.assert_allclose(small.kl_divergence(), first.kl_divergence(), rtol=1e-5)


class Centered(kv.priors.Prior):
    """With a variable whose initializer has a name."""

    def variables(self, kernel):
        return {"center": {"initializer": "zeros", "trainable": False}}

    def log_prob(self, weights, center):
        return -keras.ops.square(weights - center)


def test_an_initializer_by_name():
    _, layer = new(Centered())
    layer.prior_variables["center"].assign(1.0)
    layer.start_from_weights()
    assert float(layer.prior_variables["center"]) == 0


def wrapped(prior, weights=None, **arguments):
    lstm = kv.VarianceWrapper(
        keras.layers.LSTM(4), weights, prior=prior, train_size=1, **arguments
    )
    return keras.Sequential([keras.Input((3, 4)), lstm]), lstm


def test_wrapper(tmp_path):
    """Each weight has a center, which a file must have: the wrapper's variables are
    loaded before those of the layer inside."""
    model, lstm = wrapped(CENTERED)
    for weight in lstm.random_weights:
        np.testing.assert_array_equal(weight.prior_variables["center"], weight.variable)
    model.save_weights(tmp_path / "centered.weights.h5")
    other, loaded = wrapped(CENTERED)
    other.load_weights(tmp_path / "centered.weights.h5")
    np.testing.assert_allclose(loaded.kl_divergence(), lstm.kl_divergence())
    wrapped("normal")[0].save_weights(tmp_path / "plain.weights.h5")
    with pytest.raises(ValueError, match=r"start the center.*Received: prior="):
        other.load_weights(tmp_path / "plain.weights.h5")


def test_files_by_position():
    """None has a prior's variables: a number in them is `kl_weight`."""
    for prior in (LEARNED, CENTERED):
        _, layer = new(prior)
        kernel, log_alpha = np.asarray(layer.kernel), np.asarray(layer.phi)
        arrays = kernel, np.zeros(3), log_alpha, np.asarray(0.25)
        layer.load_own_variables({str(k): array for k, array in enumerate(arrays)})
        assert float(layer.kl_weight) == 0.25
        if prior is LEARNED:
            assert float(layer.prior_variables["log_scale"]) == np.float32(np.log(0.5))


def test_wrapper_of_double_precision():
    dense = keras.layers.Dense(4, dtype="float64")
    inner = keras.Sequential([keras.Input((3,)), dense])
    wrapper = kv.VarianceWrapper(inner, prior=CENTERED, train_size=1)
    wrapper(X[:, :3])
    (weight,) = wrapper.random_weights
    np.testing.assert_array_equal(weight.prior_variables["center"], dense.kernel)


def test_files_tell_the_weights_of_a_wrapper_apart(tmp_path):
    """Also where they have equal shapes."""
    wrapped(None, "lstm_cell/kernel")[0].save_weights(tmp_path / "one.weights.h5")
    other, lstm = wrapped(None, "recurrent")
    (weight,) = lstm.random_weights
    before = np.asarray(weight.phi)
    with pytest.raises(ValueError, match="must have the variables"):
        other.load_weights(tmp_path / "one.weights.h5")
    np.testing.assert_array_equal(weight.phi, before)
