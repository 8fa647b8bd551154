"""Layers with two random kernels in a row, against brute-force NumPy."""

import functools

import keras
import numpy as np
import pytest

import keras_variance as kv
from tests import backends
from tests.layers.cases import (
    NOISE_ESTIMATORS,
    POSTERIORS,
    TWO_KERNELS,
    build,
    inputs,
    sample,
    without_bias,
)
from tests.statistics import assert_moments, assert_same_moments, assert_uncorrelated

DRAWS = 2000
NOISES = {
    "gaussian": lambda rng, shape: rng.normal(size=shape),
    "bernoulli": lambda rng, shape: rng.choice([-1.0, 1.0], size=shape),
    "uniform": lambda rng, shape: rng.uniform(-(3**0.5), 3**0.5, size=shape),
}


@functools.cache
def data(name, seed):
    """Inputs, and the stock layer's outputs as a bilinear form: B in y = Σ B d p."""
    case, rng = TWO_KERNELS[name], np.random.default_rng(seed)
    x = inputs(case, rng)
    stock = case.stock(**case.arguments)
    stock.build(x.shape)
    first, second = stock.depthwise_kernel, stock.pointwise_kernel

    def units(kernel):
        shape = tuple(kernel.shape)
        return np.eye(np.prod(shape), dtype="float32").reshape(-1, *shape)

    form = []
    for one in units(first):
        first.assign(one)
        row = []
        for other in units(second):
            second.assign(other)
            row.append(np.asarray(stock(x)))
        form.append(row)
    return x, np.moveaxis(np.array(form, "float64"), (0, 1), (-2, -1))


def weight_moments(weight, posterior):
    """By the table of posteriors.py: arrays of the weight's entries, flat."""
    theta = np.asarray(weight.variable, "float64")
    if posterior == "zero_mean":
        return np.zeros(theta.size), theta.ravel() ** 2
    variance = np.exp(np.float64(weight.phi)) * np.ones_like(theta)
    variance *= 1 if posterior == "additive" else theta**2
    return theta.ravel(), variance.ravel()


def output_moments(form, first, second):
    """E[y] and Var[y] of y = Σ B d p, with independent d and p."""
    (m, v), (n, w) = first, second
    mean = np.einsum("...ij,i,j", form, m, n)
    left, right = np.outer(m, m) + np.diag(v), np.outer(n, n) + np.diag(w)
    second = np.einsum("...ij,...kl,ik,jl", form, form, left, right, optimize=True)
    return mean, second - mean**2


def kurtosis(form, first, second, noise, rng):
    """Of each output, by brute force."""
    d, p = (m + np.sqrt(v) * noise(rng, (20_000, len(m))) for m, v in (first, second))
    y = np.einsum("...ij,ni,nj->n...", form, d, p, optimize=True)
    y -= y.mean(axis=0)
    return np.mean(y**4, axis=0) / np.mean(y**2, axis=0) ** 2


def draw(layer, x, estimator):
    if estimator in ("local_reparameterization", "moment_matching"):
        rows = np.tile(x, (DRAWS, *[1] * (x.ndim - 1)))  # independent
        outputs = np.asarray(layer(rows))
        return outputs.reshape(DRAWS, len(x), *outputs.shape[1:])
    return sample(layer, x, DRAWS)


@pytest.mark.parametrize("noise, estimator", NOISE_ESTIMATORS)
@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("name", TWO_KERNELS)
def test_moments(name, posterior, noise, estimator, seed, rng):
    x, form = data(name, seed)
    families = {"posterior": posterior, "noise": noise, "estimator": estimator}
    layer = build(TWO_KERNELS[name], rng, **families)
    weights = [weight_moments(weight, posterior) for weight in layer.random_weights]
    drawn = "gaussian" if estimator == "moment_matching" else noise
    draws = without_bias(layer, draw(layer, x, estimator))
    fourth = kurtosis(form, *weights, NOISES[drawn], rng)
    assert_moments(draws, *output_moments(form, *weights), fourth)


@pytest.mark.parametrize("estimator", kv.estimators.MEMBERS)
def test_noise_of_the_kernels_is_independent(estimator, rng):
    """The product of equal draws of two weights would have mean 1, and not 0."""
    layer = kv.VarianceSeparableConv1D(1, 1, use_bias=False, estimator=estimator)
    layer.build((None, 1, 1))
    for weight in layer.random_weights:
        weight.variable.assign(np.ones(weight.shape))
    x = np.ones((1, 1, 1), "float32")
    model = keras.Sequential([keras.Input((1, 1)), layer])
    ensembles = [kv.transforms.ensemble(model, DRAWS, each) for each in (True, False)]
    for noisy in (
        sample(layer, x, DRAWS),
        *(each.predict(x, verbose=0) for each in ensembles),
    ):
        noisy = np.ravel(noisy)
        assert_moments(noisy[:, None], [0.0], [1.0], 9.0)


@pytest.mark.parametrize("shared_noise", [True, False])
@pytest.mark.parametrize("estimator", kv.estimators.MEMBERS)
@pytest.mark.parametrize("name", TWO_KERNELS)
def test_ensemble(name, estimator, shared_noise, seed, rng):
    """Of a known input, and of random ones; samples are independent."""
    x, form = data(name, seed)
    layer = build(TWO_KERNELS[name], rng, posterior="additive", estimator=estimator)
    weights = [weight_moments(each, "additive") for each in layer.random_weights]
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    outputs = kv.transforms.ensemble(model, DRAWS, shared_noise).predict(x, verbose=0)
    draws = without_bias(layer, np.moveaxis(outputs, 1, 0))
    mean, variance = output_moments(form, *weights)
    assert_moments(
        draws, mean, variance, kurtosis(form, *weights, NOISES["gaussian"], rng)
    )
    assert_uncorrelated(draws[1:] - mean, draws[:-1] - mean)


@pytest.mark.parametrize("shared_noise", [True, False])
@pytest.mark.parametrize("estimator", kv.estimators.MEMBERS)
def test_ensemble_of_random_inputs(estimator, shared_noise, rng):
    """They are as many as the samples: here all are equal."""
    case = TWO_KERNELS["separable_conv1d"]
    layer = build(case, rng, posterior="additive", estimator=estimator)
    before = kv.VarianceDense(3, kernel_initializer="zeros")
    shape = (2, *case.input_shape)
    models = [
        keras.Sequential([keras.Input(case.input_shape), *layers, layer])
        for layers in ([], [before])
    ]
    before.bias.assign(rng.normal(size=3))
    x = np.broadcast_to(np.asarray(before.bias), shape)
    known, random = (
        np.moveaxis(each.predict(x, verbose=0), 1, 0)
        for each in (kv.transforms.ensemble(m, DRAWS, shared_noise) for m in models)
    )
    assert_same_moments(random, known)


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("name", TWO_KERNELS)
def test_moments_are_propagated(name, posterior, seed, rng):
    """Exactly, of a known input."""
    x, form = data(name, seed)
    layer = build(TWO_KERNELS[name], rng, posterior=posterior)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    moments = kv.transforms.propagate_moments(model, None, statistics=True)(x)
    weights = [weight_moments(weight, posterior) for weight in layer.random_weights]
    mean, variance = output_moments(form, *weights)
    actual = without_bias(layer, moments["mean"])
    np.testing.assert_allclose(actual, mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(moments["variance"], variance, rtol=1e-4)


@pytest.mark.parametrize("prior", kv.priors.MEMBERS)
def test_kl_is_the_sum_over_both_kernels(prior, rng):
    """Of two layers with one of the kernels each."""
    families = {"posterior": "additive", "prior": prior, "train_size": 10}
    layer = build(TWO_KERNELS["separable_conv2d"], rng, **families)
    first = kv.VarianceDepthwiseConv2D(2, depth_multiplier=2, **families)
    second = kv.VarianceConv2D(3, 1, **families)
    first.build((None, 3, 5, 2))
    second.build((None, 3, 5, 4))
    for each, weight in zip((first, second), layer.random_weights, strict=True):
        each.kernel.assign(weight.variable)
        each.phi.assign(weight.phi)

    def kl(layer):
        return float(layer.kl_divergence(keras.random.SeedGenerator(1)))

    sampled = prior == "scale_mixture"  # the second one with other noise
    np.testing.assert_allclose(
        kl(layer), kl(first) + kl(second), rtol=0.1 if sampled else 1e-5
    )
    np.testing.assert_allclose(layer.own_loss(), kl(layer) / 10, rtol=0.1)


def test_one_kernel_is_not_taken_for_both(rng):
    layer = build(TWO_KERNELS["separable_conv1d"], rng, posterior="additive")
    message = r"several random kernels.* Received: layer="
    for name in ("kernel_mean", "kernel_scale", "log_alpha", "phi", "mask"):
        with pytest.raises(ValueError, match=message):
            getattr(layer, name)
    for call in (lambda: layer.keep(True), layer.posterior_distribution):
        with pytest.raises(ValueError, match=message):
            call()


def test_replace_keeps_both_kernels(rng):
    case = TWO_KERNELS["separable_conv2d"]
    stock = case.stock(**case.arguments, activation="tanh")
    model = keras.Sequential([keras.Input(case.input_shape), stock])
    posterior = kv.posteriors.WeightAlpha(initial_log_alpha=-60)
    result = kv.transforms.replace(model, posterior)
    assert type(result.layers[-1]) is case.layer
    x = inputs(case, rng)
    np.testing.assert_allclose(result(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("granularity", ["weight", "unit"])
def test_pruned_weights_stay_pruned(granularity, rng):
    case = TWO_KERNELS["separable_conv2d"]
    layer = build(case, rng, posterior="additive")
    model = keras.Sequential([keras.Input(case.input_shape), layer])
    model.compile("adam", "mse")
    kv.prune(model, 0.5, granularity=granularity)
    zeros = [np.asarray(weight.scale) == 0 for weight in layer.random_weights]
    assert all(0.3 < each.mean() < 0.7 for each in zeros)
    y = np.ones((8, *model.output_shape[1:]))
    model.fit(inputs(case, rng, 8), y, verbose=0)
    for weight, each in zip(layer.random_weights, zeros, strict=True):
        np.testing.assert_array_equal(np.asarray(weight.scale) == 0, each)
        assert np.all(np.asarray(weight.mean)[each] == 0)
    shrunk = kv.transforms.shrink(model)
    assert shrunk.layers[-1] is layer  # it is left whole


@pytest.mark.parametrize("estimator", ["flipout", "weight_sampling"])
def test_channels_first(estimator, rng):
    """The same layer, up to the order of axes. (Compiled: the CPU has XLA's only.)"""
    case = TWO_KERNELS["separable_conv2d"]
    arguments = {"posterior": "neuron_alpha", "estimator": estimator, "seed": 1}
    last = build(case, rng, **arguments)
    first = case.layer(**case.arguments, **arguments, data_format="channels_first")
    x = inputs(case, rng)
    first.build(np.moveaxis(x, -1, 1).shape)
    first.set_weights(last.get_weights())
    outputs = backends.compiled(first, jit_compile=True)(np.moveaxis(x, -1, 1))
    expected = backends.compiled(last, jit_compile=True)(x)
    np.testing.assert_allclose(
        np.moveaxis(np.asarray(outputs), 1, -1), expected, rtol=1e-4, atol=1e-4
    )
