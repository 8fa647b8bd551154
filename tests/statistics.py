"""Statistical assertions with a stated rate of false alarms."""

import numpy as np
from scipy import stats

# Probability that a test fails by chance, whatever number of comparisons it makes.
FALSE_ALARM = 1e-6


def threshold(comparisons):
    """|z| that one of so many standard normals exceeds with that probability."""
    return stats.norm.isf(FALSE_ALARM / comparisons / 2)


def assert_moments(draws, mean, variance, kurtosis=3.0):
    """Assert that the columns of `draws` have a mean and a variance.

    Args:
        draws: Array, (draws, …): independent along the first axis.
        mean, variance: Arrays, (…).
        kurtosis: Array, (…): E (x − mean)⁴ / variance², of which the standard
            error of the variance depends. Normal variables have 3.
    """
    draws = np.asarray(draws, "float64")
    mean, variance = np.asarray(mean, "float64"), np.asarray(variance, "float64")
    n = len(draws)
    limit = threshold(2 * draws[0].size)
    error = draws.mean(axis=0) - mean
    z = error / np.sqrt(variance / n)
    assert np.abs(z).max() < limit, f"mean: |z| = {np.abs(z).max():.1f} > {limit:.1f}"
    ratio = np.square(draws - mean).mean(axis=0) / variance
    z = (ratio - 1) / np.sqrt((np.asarray(kurtosis) - 1 + 1e-6) / n)
    assert np.abs(z).max() < limit, (
        f"variance: |z| = {np.abs(z).max():.1f} > {limit:.1f}, "
        f"ratios from {ratio.min():.3f} to {ratio.max():.3f}"
    )


def assert_uncorrelated(x, y):
    """Assert that two arrays of draws, (draws, …), are uncorrelated."""
    product = np.asarray(x, "float64") * np.asarray(y, "float64")
    z = product.mean(axis=0) / (product.std(axis=0) / np.sqrt(len(product)))
    limit = threshold(z.size)
    assert np.abs(z).max() < limit, f"|z| = {np.abs(z).max():.1f} > {limit:.1f}"


def assert_same_moments(x, y):
    """Assert that two arrays of draws, (draws, …), have equal means and variances."""
    x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
    limit = threshold(2 * x[0].size)
    for name, a, b in (
        ("mean", x, y),
        ("variance", (x - x.mean(axis=0)) ** 2, (y - y.mean(axis=0)) ** 2),
    ):
        error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
        difference = np.abs(a.mean(axis=0) - b.mean(axis=0))
        # Constants agree up to rounding
        tolerance = 1e-5 * (1 + np.abs(b.mean(axis=0)))
        z = np.maximum(difference - tolerance, 0) / (error + 1e-12)
        assert z.max() < limit, f"{name}: |z| = {z.max():.1f} > {limit:.1f}"
