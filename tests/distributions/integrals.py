"""KL divergences of Gaussians, and integrals to compare them with."""

import itertools

import numpy as np
from keras import ops
from scipy import integrate, stats

from keras_variance import posteriors, priors


def tensors(*arrays):
    return [ops.convert_to_tensor(each, "float32") for each in arrays]


def kl(prior, mean, stddev):
    """KL divergence of N(mean, stddev²), by way of the additive posterior."""
    mean, phi = tensors(mean, 2 * np.log(stddev))
    return np.asarray(priors.get(prior).kl(posteriors.Additive(), mean, phi, None))


def gaussian_integral(function, mean, stddev):
    """E function(w), w ~ N(mean, stddev²), `function` with a peak or dip at 0."""
    density = stats.norm(mean, stddev).pdf
    spread = 12 * stddev
    near = [s * 10.0**k for k in range(-12, 3) for s in (-1, 1)]
    points = {mean + d * stddev for d in (-12, -3, 0, 3, 12)} | {0.0, *near}
    points = sorted(p for p in points if mean - spread <= p <= mean + spread)
    return sum(
        integrate.quad(lambda w: function(w) * density(w), a, b, limit=200)[0]
        for a, b in itertools.pairwise(points)
    )
