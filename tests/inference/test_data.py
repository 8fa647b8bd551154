"""Labels and the outputs that they are of."""

import keras
import numpy as np
import pytest

import keras_variance as kv
from tests import backends

layers = keras.layers
CE = "sparse_categorical_crossentropy"


def two_heads(rng, as_dict=False):
    """Outputs "b" and "a", in this order; the one predicts class 1, the other 0."""
    x = keras.Input((4,))
    h = kv.VarianceDense(5, posterior="layer_alpha")(x)
    heads = [
        layers.Dense(2, "softmax", bias_initializer=start([-9, 9]), name="b")(h),
        layers.Dense(2, "softmax", bias_initializer=start([9, -9]), name="a")(h),
    ]
    outputs = dict(zip("ba", heads, strict=True)) if as_dict else heads
    model = keras.Model(x, outputs)
    model.compile("sgd", {"a": CE, "b": CE})
    x = rng.normal(size=(20, 4)).astype("float32") / 10
    return model, x, np.ones(20, int), np.zeros(20, int)


def start(values):
    return lambda shape, dtype=None: keras.ops.convert_to_tensor(values, dtype)


@pytest.mark.parametrize("as_dict", [False, True])
def test_labels_by_name(as_dict, rng):
    model, x, b, a = two_heads(rng, as_dict)
    y = {"b": b, "a": a}
    expected = -20 * model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    bound = kv.elbo(model, x, y, verbose=0)
    assert bound.data_term == pytest.approx(expected, abs=0.5)
    values = kv.log_likelihood(model, x, y, verbose=0)
    values = values if as_dict else dict(zip("ba", values, strict=True))
    assert all(np.mean(values[name]) > -0.1 for name in "ab")
    callback = kv.callbacks.MCPredict(x, y, 2, metrics=["accuracy"])
    history = model.fit(x, y, verbose=0, callbacks=[callback]).history
    assert {f"{name}_loss" for name in "ab"} <= {*history}  # Keras's names
    for name in "ab":
        assert history[f"val_ensemble_{name}_accuracy"] == [1.0]


def test_labels_that_fit_no_output(rng):
    model, x, b, a = two_heads(rng, as_dict=True)
    for y in ({"b": b, "c": a}, [b, a]):
        with pytest.raises(ValueError, match=r"`y` must be .*'b', 'a'.*Received: y="):
            kv.elbo(model, x, y, verbose=0)
    model, x, b, a = two_heads(rng)
    with pytest.raises(ValueError, match=r"`y` must be .*'b', 'a'.*Received: y="):
        kv.elbo(model, x, {"b": b, "other": a}, verbose=0)
    with pytest.raises(ValueError, match=r"`y` must have labels for each.*Received: "):
        kv.elbo(model, x, {"b": b}, verbose=0)


def unregistered(y, p):
    return keras.losses.sparse_categorical_crossentropy(y, p)


def test_a_sparsity_curve_does_not_need_the_loss(rng):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Lambda(lambda x: 2 * x),
            kv.VarianceDense(3, "softmax", posterior="layer_alpha"),
        ]
    )
    model.compile("sgd", unregistered)
    x, y = rng.normal(size=(6, 4)), np.arange(6) % 3
    before, after = kv.sparsity_curve(model, x, y, (0, 0.5), samples=2)
    assert (before.sparsity, after.sparsity) == (0, 0.5)
    assert kv.sparsity(model) == 0


@pytest.mark.skipif(backends.BACKEND != "torch", reason="a mode of PyTorch")
def test_inference_mode(rng):
    """What is kept from one call to the next is not bound to it."""
    import torch

    model = keras.Sequential([keras.Input((4,)), kv.VarianceDense(3, "softmax")])
    x = rng.normal(size=(6, 4)).astype("float32")
    with torch.inference_mode():
        first = kv.mc_predict(model, x, seed=0, verbose=0)
        moments = kv.moment_predict(model, x, verbose=0)
    second = kv.mc_predict(model, x, seed=0, verbose=0)
    np.testing.assert_array_equal(first.mean, second.mean)
    again = kv.moment_predict(model, x, verbose=0)
    np.testing.assert_array_equal(moments.mean, again.mean)
