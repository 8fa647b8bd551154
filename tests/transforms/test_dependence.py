"""Branches of one random value that meet again, against draws of the whole model."""

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.transforms import ensemble, propagate_moments
from keras_variance.transforms.moments.dependence import DependenceWarning
from tests.statistics import assert_moments

layers = keras.layers
ops = keras.ops
DRAWS = 100_000


def made(merge, rng, units=3, posterior="additive"):
    """A model of one row: a variance layer "random", and what becomes of it."""
    x = keras.Input((4,))
    random = kv.VarianceDense(units, posterior=posterior, name="random")
    model = keras.Model(x, merge(random(x)))
    for layer in (random, *model.layers):
        if isinstance(layer, keras.layers.Dense | keras.layers.Conv1D):
            for weight in layer.trainable_weights:
                weight.assign(rng.normal(size=weight.shape))
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.weights:
                weight.assign(rng.uniform(0.5, 1.5, size=weight.shape))
    if posterior != "zero_mean":
        random.phi.assign(rng.normal(size=random.phi.shape) - 1)
    return model, rng.normal(size=(1, 4)).astype("float32")


def moments(model, x):
    result = propagate_moments(model, likelihood=None, statistics=True)(x)
    return np.asarray(result["mean"])[0], np.asarray(result["variance"])[0]


def draws(model, x):
    return np.asarray(ensemble(model, DRAWS, seed=0)(x))[0]


def shared_normalization(h):
    norm = layers.BatchNormalization()
    return layers.Add()([norm(h), h])


def shared_twice(h):
    """One layer of Keras, called on both branches."""
    norm = layers.BatchNormalization(name="norm")
    return norm(h) - norm(2 * h)


def concatenated(*factors):
    def merge(h):
        parts = [h if f == 1 else f * h for f in factors]
        return layers.Dense(3, name="last")(layers.Concatenate()(parts))

    return merge


def concatenated_sequences(h):
    h = layers.Reshape((2, 3))(h)
    h = layers.Concatenate()([h, 2 * h])
    return layers.Conv1D(3, 1)(h)


def concatenated_with_a_known_value(h):
    """The input's own part is not random, whatever it is."""
    known = h._keras_history.operation.input
    return layers.Dense(3)(layers.Concatenate()([h, known, -1 * h]))


def of_a_multiple(h):
    return layers.Add()([h, layers.Rescaling(2.0, offset=1.0)(h)])


EXACT = {
    "h + h": lambda h: h + h,
    "h + h + h": lambda h: layers.Add()([h, h, h]),
    "h - h": lambda h: h - h,
    "h - 2 h": lambda h: h - 2 * h,
    "2 h + h": lambda h: 2 * h + h,
    "(h + h) - h": lambda h: (h + h) - h,
    "average": lambda h: layers.Average()([h, h]),
    "average of multiples": lambda h: layers.Average()([h, 3 * h, -1 * h]),
    "subtract": lambda h: layers.Subtract()([h, 2 * h]),
    "rescaling": of_a_multiple,
    "batch norm": shared_normalization,
    "batch norm twice": shared_twice,
    "dropout": lambda h: h + layers.Dropout(0.5)(h),
    "concatenate, dense": concatenated(1, 1),
    "concatenate multiples, dense": concatenated(1, 2, -0.5),
    "concatenate sequences, convolution": concatenated_sequences,
    "concatenate a known value": concatenated_with_a_known_value,
}


@pytest.mark.parametrize("name", EXACT)
def test_exact(name, rng):
    """Mean and variance against 10⁵ draws. All values are Gaussian."""
    units = 6 if "sequences" in name else 3
    model, x = made(EXACT[name], rng, units)
    mean, variance = moments(model, x)
    samples = draws(model, x)
    if name == "h - h":
        np.testing.assert_allclose([mean, variance], 0, atol=1e-6)
        np.testing.assert_allclose(samples, 0, atol=1e-6)
        return
    assert_moments(samples.reshape(DRAWS, -1), np.ravel(mean), np.ravel(variance))


def kurtosis(samples):
    centred = samples - samples.mean(axis=0)
    return (centred**4).mean(axis=0) / (centred**2).mean(axis=0) ** 2


WARNED = {
    "h + relu(h)": lambda h: h + layers.ReLU(name="branch")(h),
    "relu(h) - h": lambda h: layers.Subtract()([ops.relu(h), h]),
    "average": lambda h: layers.Average()([h, layers.ReLU()(h)]),
    "concatenate, dense": lambda h: layers.Dense(2)(
        layers.Concatenate()([h, layers.ReLU()(h)])
    ),
    "a residual block": lambda h: h + layers.Dense(3, "relu")(h),
    "copies by +": lambda h: ops.mean(ops.expand_dims(h, 1) + ops.ones((5, 3)), axis=1),
    "sum of a dense layer": lambda h: ops.sum(layers.Dense(6)(h), axis=-1),
}


@pytest.mark.parametrize("name", WARNED)
def test_warned(name, rng):
    """The warning names the layer with the noise. The mean is right."""
    model, x = made(WARNED[name], rng)
    with pytest.warns(DependenceWarning, match=r"same noise, of 'random'.*mc_predict"):
        result = propagate_moments(model, likelihood=None)
    with np.errstate(all="ignore"):
        samples = draws(model, x)
    with pytest.warns(DependenceWarning):
        mean = np.asarray(result(x))[0]
    z = (samples.mean(axis=0) - mean) / (samples.std(axis=0) / np.sqrt(DRAWS))
    assert np.abs(z).max() < 6  # 3 comparisons: a false alarm in 10⁸


def test_the_warning_names_all_layers_with_common_noise(rng):
    x = keras.Input((4,))
    first = kv.VarianceDense(3, posterior="additive", name="first")(x)
    second = kv.VarianceDense(3, posterior="additive", name="second")(first)
    model = keras.Model(x, layers.Add(name="sum")([layers.ReLU()(first), second]))
    with pytest.warns(DependenceWarning, match="'sum' merges.*'first', 'second'"):
        propagate_moments(model)


REFUSED = {
    "product": lambda h: layers.Multiply(name="merge")([h, h]),
    "gate": lambda h: layers.Multiply(name="merge")(
        [h, layers.Activation("sigmoid")(h)]
    ),
    "maximum": lambda h: layers.Maximum(name="merge")([h, -1 * h]),
    "minimum": lambda h: layers.Minimum(name="merge")([h, layers.ReLU()(h)]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, rng):
    """When the model is made: both layers are named."""
    model, _ = made(REFUSED[name], rng)
    message = r"'merge' merges.*same noise, of 'random'.*mc_predict.*Received: "
    with pytest.raises(ValueError, match=message):
        propagate_moments(model)


def test_an_operator_is_refused(rng):
    model, _ = made(lambda h: h * ops.sigmoid(h), rng)
    with pytest.raises(ValueError, match=r"merges.*'random'.*Received: "):
        propagate_moments(model)


def test_independent_branches_are_not_dependent(rng):
    """Two layers, and one layer that is called twice: noise of each call."""
    x = keras.Input((4,))
    one = kv.VarianceDense(3, posterior="additive")
    other = kv.VarianceDense(3, posterior="additive")
    merged = layers.Multiply()([one(x) + one(x), other(x)])
    model = keras.Model(x, merged)
    for layer in (one, other):
        layer.kernel.assign(rng.normal(size=(4, 3)))
        layer.phi.assign(rng.normal(size=(4, 3)))
    x = rng.normal(size=(1, 4)).astype("float32")
    mean, variance = moments(model, x)
    samples = draws(model, x)
    assert_moments(samples, mean, variance, kurtosis(samples))


def test_a_layer_of_mean_zero_is_uncorrelated_with_its_input(rng):
    """h + layer(h): the variances add."""
    x = keras.Input((4,))
    h = kv.VarianceDense(3, posterior="additive")(x)
    last = kv.VarianceDense(3, use_bias=False)
    model = keras.Model(x, h + last(h))
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) / 2)
    x = rng.normal(size=(1, 4)).astype("float32")
    mean, variance = moments(model, x)
    samples = draws(model, x)
    assert_moments(samples, mean, variance, kurtosis(samples))


def test_integrate_last_knows_it_too(rng):
    """What is integrated and meets itself again is exact, or refused."""
    model, x = made(lambda h: h + h, rng)
    outputs = np.asarray(ensemble(model, 2, integrate_last=True)(x))
    mean, _ = moments(model, x)
    np.testing.assert_allclose(outputs[0, 0], mean, rtol=1e-5)
    model, _ = made(lambda h: h * ops.sigmoid(h), rng)
    with pytest.raises(ValueError, match=r"merges.*'random'.*Received: "):
        ensemble(model, 2, integrate_last=True)


@pytest.mark.parametrize("name", ["h + h", "h + relu(h)", "h * sigmoid(h)"])
def test_samples_are_right(name, rng):
    """`mc_predict`, to which the messages point, against a formula in NumPy."""
    functions = {
        "h + h": (lambda h: h + h, lambda h: 2 * h),
        "h + relu(h)": (lambda h: h + ops.relu(h), lambda h: h + np.maximum(h, 0)),
        "h * sigmoid(h)": (
            lambda h: h * ops.sigmoid(h),
            lambda h: h / (1 + np.exp(-h)),
        ),
    }
    merge, function = functions[name]
    model, x = made(merge, rng)
    layer = model.get_layer("random")
    mean = x @ np.asarray(layer.kernel) + np.asarray(layer.bias)
    stddev = np.sqrt(x**2 @ np.exp(np.asarray(layer.phi)))
    z = np.linspace(-8, 8, 4001)[:, None]
    weights = np.exp(-(z**2) / 2)
    weights /= weights.sum()
    values = function(mean + stddev * z)
    exact = (weights * values).sum(axis=0)
    variance = (weights * (values - exact) ** 2).sum(axis=0)
    fourth = (weights * (values - exact) ** 4).sum(axis=0)
    assert_moments(draws(model, x), exact, variance, fourth / variance**2)
