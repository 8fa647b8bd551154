"""Metrics of the distribution of numbers."""

import math

import keras
import numpy as np
from keras import ops

from keras_variance import _keras, checks
from keras_variance.types import DType


class MeanOfErrors(keras.metrics.MeanMetricWrapper):
    """Base: the mean over examples of what `error(y_true, y_pred)` gives, without
    those that the mask of `y_pred` says are padding."""

    _direction = "down"  # so that EarlyStopping knows what is better

    def __init__(self, name=None, dtype=None):
        super().__init__(self.error, name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = _mask(y_pred)  # before it is lost in the conversion
        y_pred = _keras.set_mask(ops.convert_to_tensor(y_pred, self.dtype), mask)
        y_true = ops.convert_to_tensor(y_true, self.dtype)
        super().update_state(y_true, y_pred, sample_weight)

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}


@keras.saving.register_keras_serializable("keras_variance")
class GaussianCRPS(MeanOfErrors):
    """Continuous ranked probability score of normal distributions N(m, σ²).

        CRPS = ∫ (F(x) − 1[x ≥ y])² dx = σ (z (2 Φ(z) − 1) + 2 φ(z) − 1/√π)

    with z = (y − m)/σ: in the units of y, 0 at best; of σ → 0 the absolute error.

    Call arguments:
        y_true: Targets, (batch, …, d); d = 1 may be left out.
        y_pred: Means m, then log variances log σ², (batch, …, 2d), as the outputs of a
            model with a Gaussian likelihood.
        sample_weight: Weights of the examples. Default 1.

    Args:
        name: Name of the metric.
        dtype: Data type of state and result. Defaults to `keras.config.floatx()`.

    Raises:
        ValueError: When called, for other shapes.

    Example:

    >>> crps = GaussianCRPS()
    >>> round(float(crps([[0.0]], [[0.0, 0.0]])), 4)  # (√2 − 1)/√π
    0.2337

    Reference: Gneiting & Raftery, Strictly Proper Scoring Rules, Prediction, and
    Estimation, 2007, equation 21.
    """

    def __init__(self, name: str | None = "gaussian_crps", dtype: DType = None):
        super().__init__(name=name, dtype=dtype)

    def error(self, y, outputs):
        size = outputs.shape[-1]
        even = len(outputs.shape) > 1 and size and size % 2 == 0
        expected = "means and log variances, (batch, …, 2d)"
        checks.require(even, "y_pred", expected, outputs)
        mean, log_variance = outputs[..., : size // 2], outputs[..., size // 2 :]
        y = targets(y, mean)
        stddev = ops.exp(log_variance / 2)
        z = (y - mean) / stddev
        density = ops.exp(-ops.square(z) / 2) / math.sqrt(2 * math.pi)
        inside = ops.erf(z / math.sqrt(2))  # 2 Φ(z) − 1
        return stddev * (z * inside + 2 * density - 1 / math.sqrt(math.pi))


@keras.saving.register_keras_serializable("keras_variance")
class EnsembleCRPS(MeanOfErrors):
    """Continuous ranked probability score of samples of y.

        CRPS = 1/K Σ_i |x_i − y| − 1/(2 K (K − 1)) Σ_ij |x_i − x_j|

    in the units of y: without bias the CRPS of the distribution that the samples come
    from, and so comparable between numbers of samples. Not `fair`, with K² in the
    place of K (K − 1), it is that of the samples' own distribution, never below 0.
    Samples must be of y, not of its mean.

    Call arguments:
        y_true: Targets, (batch, …).
        y_pred: Samples, (batch, samples, …).
        sample_weight: Weights of the examples. Default 1.

    Args:
        fair: Whether to estimate the CRPS of the distribution behind the samples.
        name: Name of the metric.
        dtype: Data type of state and result. Defaults to `keras.config.floatx()`.

    Raises:
        ValueError: When called, for other shapes, or one sample if `fair`.

    Example:

    >>> crps = EnsembleCRPS()
    >>> float(crps([0.0], [[-1.0, 1.0]]))  # 1 − 4/4
    0.0

    Reference: Ferro, Fair Scores for Ensemble Forecasts, 2014, equation 8; Gneiting &
    Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007, equation
    20.
    """

    def __init__(
        self, fair: bool = True, name: str | None = "ensemble_crps", dtype: DType = None
    ):
        fair = checks.flag("fair", fair)
        super().__init__(name=name, dtype=dtype)
        self.fair = fair

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = _mask(y_pred)
        if mask is not None:  # (batch, samples, …), the same for all samples
            y_pred = _keras.set_mask(ops.copy(y_pred), mask[:, 0])
        super().update_state(y_true, y_pred, sample_weight)

    def error(self, y, samples):
        shape, wanted = tuple(samples.shape), tuple(y.shape)
        fits = len(shape) == len(wanted) + 1 and shape[2:] == wanted[1:]
        expected = f"samples, (batch, samples, …), of y_true of shape {wanted}"
        checks.require(fits, "y_pred", expected, samples)
        count = shape[1]
        pairs = count * (count - 1) if self.fair else count**2
        checks.require(pairs, "y_pred", "two samples at least", samples)
        accuracy = ops.mean(ops.abs(samples - y[:, None]), axis=1)
        # Σ_ij |x_i − x_j| = 2 Σ (2 i − K − 1) x_(i), of sorted samples
        ranks = ops.arange(1 - count, count, 2, dtype=self.dtype)
        ranks = ops.reshape(ranks, (1, count, *[1] * (len(shape) - 2)))
        return accuracy - ops.sum(ranks * ops.sort(samples, axis=1), axis=1) / pairs

    def get_config(self):
        return {**super().get_config(), "fair": self.fair}


@keras.saving.register_keras_serializable("keras_variance")
class IntervalCoverage(MeanOfErrors):
    """The share of targets inside of their intervals, edges included.

    Of intervals for 90 % it should be 0.9. See `IntervalWidth` for their price.

    Call arguments:
        y_true: Targets, (batch, …).
        y_pred: Lower and upper ends, (batch, …, 2), as the outputs of a model of two
            quantiles.
        sample_weight: Weights of the examples. Default 1.

    Args:
        name: Name of the metric.
        dtype: Data type of state and result. Defaults to `keras.config.floatx()`.

    Raises:
        ValueError: When called, for other shapes.

    Example:

    >>> coverage = IntervalCoverage()
    >>> float(coverage([0.0, 2.0], [[-1.0, 1.0], [-1.0, 1.0]]))
    0.5
    """

    _direction = "up"

    def __init__(self, name: str | None = "interval_coverage", dtype: DType = None):
        super().__init__(name=name, dtype=dtype)

    def error(self, y, ends):
        lower, upper = interval(ends)
        y = targets(y, lower)
        inside = ops.cast((lower <= y) & (y <= upper), self.dtype)
        is_nan = ops.isnan(y) | ops.isnan(lower) | ops.isnan(upper)
        return ops.where(is_nan, np.nan, inside)


@keras.saving.register_keras_serializable("keras_variance")
class IntervalWidth(MeanOfErrors):
    """The average width of intervals, in the units of the targets.

    Call arguments and arguments as for `IntervalCoverage`.

    Example:

    >>> width = IntervalWidth()
    >>> float(width([0.0, 2.0], [[-1.0, 1.0], [-1.0, 3.0]]))
    3.0
    """

    def __init__(self, name: str | None = "interval_width", dtype: DType = None):
        super().__init__(name=name, dtype=dtype)

    def error(self, y, ends):
        lower, upper = interval(ends)
        targets(y, lower)
        return upper - lower


def _mask(y_pred):
    return _keras.get_mask(y_pred) if ops.is_tensor(y_pred) else None


def interval(ends):
    """The lower and the upper ends of intervals."""
    fits = len(ends.shape) > 1 and ends.shape[-1] == 2
    checks.require(fits, "y_pred", "lower and upper ends, (batch, …, 2)", ends)
    return ends[..., 0], ends[..., 1]


def targets(y, like):
    """Targets in the shape of their predictions."""
    shape, wanted = tuple(y.shape), tuple(like.shape)
    fits = shape[1:] in (wanted[1:], (*wanted[1:], 1)) or (
        wanted[-1] == 1 and shape[1:] == wanted[1:-1]
    )
    checks.require(len(shape) and fits, "y_true", f"targets of shape {wanted}", y)
    return ops.reshape(y, ops.shape(like))
