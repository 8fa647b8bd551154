"""Mean and variance of the outputs, for every valid combination."""

import functools

import numpy as np
import pytest

from tests.layers.cases import (
    CASES,
    NOISE_ESTIMATORS,
    POSTERIORS,
    build,
    inputs,
    sample,
    without_bias,
)
from tests.layers.cases import jacobian as brute_force_jacobian
from tests.statistics import assert_moments

# A variance that is wrong by a factor of 1.5 has |z| of 11 with so many Gaussian draws,
# far above the threshold of a false alarm (below 7)
DRAWS = 1000
EXCESS_KURTOSIS = {"gaussian": 0.0, "bernoulli": -2.0, "uniform": -1.2}


@functools.cache
def data(name, seed):
    x = inputs(CASES[name], np.random.default_rng(seed))
    return x, brute_force_jacobian(CASES[name], x)


def weight_moments(posterior, layer, jacobian, units):
    """Means and variances of the weights, by the table of posteriors.py, flat."""
    theta = np.ravel(layer.kernel).astype("float64")
    if posterior == "zero_mean":
        return np.zeros_like(theta), theta**2
    phi = np.ravel(layer.phi).astype("float64")
    if posterior == "neuron_alpha":
        # A weight's unit is the one that depends on it; φ has the kernel's order
        reach = np.abs(jacobian)
        units = [(axis if axis >= 0 else axis - 1) % reach.ndim for axis in units]
        others = {*range(reach.ndim - 1)} - {*units}
        reach = np.transpose(reach, (*units, -1, *others))
        reach = reach.reshape(phi.size, theta.size, -1).sum(axis=-1)
        phi = phi[reach.argmax(axis=0)]
    elif posterior == "layer_alpha":
        phi = np.full_like(theta, phi[0])
    return theta, np.exp(phi) * (1 if posterior == "additive" else theta**2)


def draw(layer, x, estimator):
    if estimator in ("local_reparameterization", "moment_matching"):
        # Rows are independent: all draws in one call
        rows = np.tile(x, (DRAWS, *[1] * (x.ndim - 1)))
        outputs = np.asarray(layer(rows))
        return outputs.reshape(DRAWS, len(x), *outputs.shape[1:])
    return sample(layer, x, DRAWS)


@pytest.mark.whole_grid
@pytest.mark.parametrize("noise, estimator", NOISE_ESTIMATORS)
@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("name", CASES)
def test_moments(name, posterior, noise, estimator, seed, rng):
    x, jacobian = data(name, seed)
    layer = build(
        CASES[name], rng, posterior=posterior, noise=noise, estimator=estimator
    )
    weight_mean, weight_variance = weight_moments(
        posterior, layer, jacobian, CASES[name].units
    )
    mean = jacobian @ weight_mean
    variance = jacobian**2 @ weight_variance
    # Kurtosis of a sum of independent terms; moment matching makes it normal
    excess = jacobian**4 @ weight_variance**2 / variance**2
    excess *= 0 if estimator == "moment_matching" else EXCESS_KURTOSIS[noise]
    draws = without_bias(layer, draw(layer, x, estimator))
    assert_moments(draws, mean, variance, 3 + excess)
