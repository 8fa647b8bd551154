"""How well predicted quantiles of numbers are calibrated: functions of arrays."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from keras_variance import checks
from keras_variance.metrics.arrays import array, vector


def gaussian_pit(y: ArrayLike, mean: ArrayLike, stddev: ArrayLike) -> np.ndarray:
    """Probability integral transform of targets by normal distributions.

        PIT = Φ((y − mean) / stddev)

    Args:
        y, mean: Targets and means, (examples, …).
        stddev: Standard deviations > 0, in the units of y, likewise.

    Returns:
        An array (examples, …), uniform on (0, 1) if the distributions are right.

    Raises:
        ValueError: For numbers that are not finite, other shapes, or `stddev` ≤ 0.

    Example:

    >>> gaussian_pit([0.0, 2.0], [0.0, 0.0], [1.0, 1.0]).round(4).tolist()
    [0.5, 0.9772]

    Reference: Gneiting, Balabdaoui & Raftery, Probabilistic Forecasts, Calibration and
    Sharpness, 2007, section 3.1.
    """
    y, mean, stddev = array("y", y), array("mean", mean), array("stddev", stddev)
    for name, values in (("mean", mean), ("stddev", stddev)):
        checks.require(values.shape == y.shape, name, f"of shape {y.shape}", values)
    checks.require((stddev > 0).all(), "stddev", "above 0", stddev)
    z = (y.astype("float64") - mean) / stddev
    return np.vectorize(math.erfc, otypes=[float])(-z / math.sqrt(2)) / 2


def ensemble_pit(y: ArrayLike, samples: ArrayLike) -> np.ndarray:
    """Probability integral transform of targets by samples of y.

        PIT = (#{x_i < y} + ½ #{x_i = y} + ½) / (K + 1)

    the rank of y among the samples, in the middle of its step: quantiles are exact up
    to 1/(2 K + 2).

    Args:
        y: Targets, (examples, …).
        samples: (examples, samples, …).

    Returns:
        An array (examples, …), uniform on (0, 1), up to its steps, if the samples come
        from the distribution of y.

    Raises:
        ValueError: For numbers that are not finite, or other shapes.

    Example:

    >>> ensemble_pit([0.5], [[0.0, 1.0, 2.0]]).tolist()
    [0.375]
    """
    y, samples = array("y", y), array("samples", samples)
    fits = samples.ndim == y.ndim + 1 and y.shape == samples[:, :1].squeeze(1).shape
    expected = f"(examples, samples, …), of y of shape {y.shape}"
    checks.require(fits, "samples", expected, samples)
    below = (samples < y[:, None]).sum(axis=1)
    equal = (samples == y[:, None]).sum(axis=1)
    return (below + equal / 2 + 0.5) / (samples.shape[1] + 1)


class QuantileCalibration(NamedTuple):
    """How often targets are below predicted quantiles.

    Attributes:
        levels: (levels,), in (0, 1).
        observed: (levels,), the share of targets below the quantile of each level.
        error: The average of |observed − level|.
    """

    levels: np.ndarray
    observed: np.ndarray
    error: float


def quantile_calibration(
    pit: ArrayLike, levels: ArrayLike = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
) -> QuantileCalibration:
    """How often targets are below the quantiles of their predictive distributions.

    Args:
        pit: Of each target, (examples,): `gaussian_pit` or `ensemble_pit`.
        levels: Numbers in (0, 1), of the quantiles.

    Returns:
        A `QuantileCalibration`.

    Raises:
        ValueError: For levels or PITs out of range.

    Example:

    >>> quantile_calibration([0.1, 0.3, 0.6, 0.9], levels=[0.5]).observed.tolist()
    [0.5]

    Reference: Kuleshov, Fenner & Ermon, Accurate Uncertainties for Deep Learning Using
    Calibrated Regression (https://arxiv.org/abs/1807.00263), section 3.5.
    """
    pit, levels = vector("pit", pit), vector("levels", levels)
    checks.require(((pit >= 0) & (pit <= 1)).all(), "pit", "from 0 to 1", pit)
    inside = ((levels > 0) & (levels < 1)).all()
    checks.require(inside, "levels", "above 0 and below 1", levels.tolist())
    observed = (pit <= levels[:, None]).mean(axis=1)
    return QuantileCalibration(
        levels, observed, float(np.abs(observed - levels).mean())
    )
