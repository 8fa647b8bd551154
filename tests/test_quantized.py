"""Layers whose weights are not in `kernel` alone: quantized, and with LoRA."""

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.transforms import (
    draw,
    ensemble,
    propagate_mean,
    propagate_moments,
    replace,
    shrink,
)

layers = keras.layers
OFF = kv.posteriors.Additive(initial_log_variance=-80.0)
X = np.linspace(-1, 1, 24, dtype="float32").reshape(6, 4)


def dense(posterior=OFF):
    """A variance layer between two stock layers, of which the last is special."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, "relu", name="first"),
            kv.VarianceDense(8, "relu", posterior=posterior, name="random"),
            layers.Dense(3, name="last"),
        ]
    )


def convolutional(posterior=OFF):
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(32, name="first"),
            layers.Reshape((4, 4, 2)),
            kv.VarianceConv2D(6, 3, activation="relu", posterior=posterior),
            layers.Conv2D(3, 2, name="last"),
            layers.Flatten(),
        ]
    )


MODELS = {"dense": dense, "convolutional": convolutional}
each_model = pytest.mark.parametrize("name", MODELS)


def quantized(name="last", posterior=OFF):
    model = dense(posterior)
    model(X)
    model.get_layer(name).quantize("int8")
    return model


@pytest.mark.parametrize("name", ["first", "last"])
def test_quantized_layers_are_refused(name):
    """By what reads a kernel: the message names that layer."""
    model = quantized(name)
    message = rf"Layer '{name}' is quantized.*Received: quantization_mode='int8'"
    with pytest.raises(ValueError, match=message):
        shrink(model)
    with pytest.raises(ValueError, match=message):
        kv.transforms.shrink_report(model)
    with pytest.warns(UserWarning, match=f"1 layers with kernels are left.*'{name}'"):
        result = replace(model, OFF)
    assert result.get_layer(name) is model.get_layer(name)
    with pytest.raises(ValueError, match=f"'{name}' .quantized.*Received: strict=True"):
        replace(model, OFF, strict=True)
    with pytest.raises(ValueError, match=f"'{name}' .quantized.*Received: layers="):
        replace(model, OFF, layers=[name])
    if name == "last":
        for make in (propagate_moments, kv.moment_predict):
            arguments = (model,) if make is propagate_moments else (model, X)
            with pytest.raises(ValueError, match=message):
                make(*arguments)
        with pytest.raises(ValueError, match=message):
            ensemble(model, 2, integrate_last=True)


def test_the_others_can_be_turned():
    result = replace(quantized("last"), OFF, layers=["first"])
    names = [layer.name for layer in kv.layers.variance_layers(result)]
    assert names == ["first", "random"]


@pytest.mark.parametrize("name", ["first", "last"])
def test_quantized_layers_are_called(name):
    """By what calls each layer as it stands."""
    model = quantized(name)
    expected = np.asarray(model(X))
    results = [propagate_mean(model), draw(model)]
    if name == "first":
        results.append(propagate_moments(model))
    for result in results:
        np.testing.assert_allclose(result(X), expected, rtol=1e-4, atol=1e-5)
    outputs = np.asarray(ensemble(model, 2)(X))
    np.testing.assert_allclose(
        outputs, np.repeat(expected[:, None], 2, axis=1), rtol=1e-4, atol=1e-5
    )
    prediction = kv.mc_predict(model, X, 2, verbose=0)
    np.testing.assert_allclose(prediction.mean, expected, rtol=1e-4, atol=1e-5)


def test_quantizing_a_drawn_model_leaves_the_source():
    model = dense()
    before = np.asarray(model(X))
    weights = [np.array(weight) for weight in model.weights]
    drawn = draw(model)
    with pytest.warns(UserWarning, match="InputLayer"):  # Keras's own
        drawn.quantize("int8")
    assert drawn.get_layer("first").quantization_mode == "int8"
    assert model.get_layer("first").quantization_mode is None
    assert not np.allclose(drawn(X), before, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model(X), before, rtol=1e-5, atol=1e-6)
    for old, new in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_variance_layers_are_not_quantized():
    """A model is quantized but for these, with a warning that names them."""
    model = dense()
    before = np.asarray(model(X))
    with pytest.raises(NotImplementedError, match="Layer 'random' draws its kernel"):
        model.get_layer("random").quantize("int8")
    with pytest.raises(NotImplementedError, match="Layer 'random' draws its kernel"):
        model.get_layer("random").enable_lora(2)
    with pytest.warns(UserWarning) as warned:
        model.quantize("int8")
    assert any("Layer 'random'" in str(each.message) for each in warned)
    assert model.get_layer("last").quantization_mode == "int8"
    error = np.abs(np.asarray(model(X)) - before).max()
    assert 0 < error < 0.1 * np.abs(before).max()


def with_lora(name, rng, posterior=OFF):
    model = MODELS[name](posterior)
    for each in ("first", "last"):
        layer = model.get_layer(each)
        layer.enable_lora(2)
        for weight in (layer.lora_kernel_a, layer.lora_kernel_b):
            weight.assign(rng.normal(size=weight.shape))
    return model


@each_model
def test_lora(name, rng):
    """Each transform computes with the effective kernel."""
    model = with_lora(name, rng)
    expected = np.asarray(model(X))
    for result in (
        propagate_mean(model),
        propagate_moments(model),
        draw(model),
        replace(draw(model), OFF),
        shrink(model),
    ):
        np.testing.assert_allclose(result(X), expected, rtol=1e-4, atol=1e-4)
    for each in ("first", "last"):
        low_rank = model.get_layer(each).lora_kernel_b
        low_rank.assign(np.zeros(low_rank.shape))
    assert np.abs(expected - np.asarray(model(X))).max() > 0.1


@each_model
def test_lora_in_smaller_layers(name, rng):
    """`shrink` takes the effective kernel apart."""
    model = with_lora(name, rng)
    kv.prune(model, 0.5, granularity="unit")
    expected = np.asarray(model(X))
    small = shrink(model)
    assert small.count_params() < 0.7 * model.count_params()
    np.testing.assert_allclose(small(X), expected, rtol=1e-4, atol=1e-4)
    assert model.get_layer("last").lora_enabled  # the source is as it was
    np.testing.assert_allclose(model(X), expected, rtol=1e-5, atol=1e-6)


def test_lora_in_moments(rng):
    """Variances too: those of a layer with the effective kernel."""
    posterior = kv.posteriors.Additive(initial_log_variance=0.0)
    model = with_lora("dense", rng, posterior)
    merged = dense(posterior)
    for layer, other in zip(model.layers, merged.layers, strict=True):
        other.kernel.assign(layer.kernel)
        other.bias.assign(layer.bias)
    for key in ("mean", "variance"):
        a, b = (
            propagate_moments(each, likelihood=None, statistics=True)(X)[key]
            for each in (model, merged)
        )
        np.testing.assert_allclose(a, b, rtol=1e-4)
