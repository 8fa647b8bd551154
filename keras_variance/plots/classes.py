"""Pictures of class probabilities: calibration, abstention, uncertainty."""

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_variance import checks
from keras_variance.metrics import ExpectedCalibrationError, RiskCoverage
from keras_variance.metrics.arrays import one_hot_labels, vector
from keras_variance.plots.axes import new_axes
from keras_variance.types import Axes


def reliability_diagram(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    bins: int = 15,
    ax: Axes | None = None,
    **kwargs,
) -> Axes:
    """Draw accuracy by confidence: on the diagonal if probabilities are calibrated.

    Args:
        y_true: Integer labels, (examples,), or one-hot, (examples, classes).
        y_pred: Probabilities, (examples, classes).
        bins: Positive integer, bins of confidence, as in `ExpectedCalibrationError`.
        ax: Matplotlib axes to draw into. Defaults to those of a new figure.
        **kwargs: Further arguments of `ax.plot`, such as `label`.

    Returns:
        The axes.

    Raises:
        ValueError: For other shapes or numbers.

    Example:

    >>> y_pred = [[0.75, 0.25], [0.75, 0.25], [0.1, 0.9]]
    >>> ax = reliability_diagram([0, 1, 1], y_pred, label="one sample")
    >>> ax.get_xlabel()
    'confidence'
    """
    metric = ExpectedCalibrationError(bins)
    metric.update_state(*one_hot_labels(y_true, y_pred))
    ax = new_axes(ax)
    weight, correct, confidence = map(
        ops.convert_to_numpy, (metric.weight, metric.correct, metric.confidence)
    )
    some = weight > 0
    x, y = confidence[some] / weight[some], correct[some] / weight[some]
    (line,) = ax.plot(x, y, **{"marker": "o", "markersize": 4, **kwargs})
    if line is ax.get_lines()[0]:  # once, of several curves
        ax.plot([0, 1], [0, 1], color="gray", linestyle=":", zorder=0)
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    return ax


def risk_coverage(curve: RiskCoverage, ax: Axes | None = None, **kwargs) -> Axes:
    """Draw the risk of the examples that are kept, by their share.

    Args:
        curve: A `RiskCoverage`, from `metrics.risk_coverage`.
        ax: Matplotlib axes to draw into. Defaults to those of a new figure.
        **kwargs: Further arguments of `ax.plot`, such as `label`.

    Returns:
        The axes.

    Raises:
        ValueError: If the curve or the axes are none.

    Example:

    >>> from keras_variance import metrics
    >>> ax = risk_coverage(metrics.risk_coverage([0, 0, 1], [0.1, 0.2, 0.9]))
    >>> ax.get_xlabel()
    'coverage, %'
    """
    is_curve = isinstance(curve, RiskCoverage)
    checks.require(is_curve, "curve", "what `metrics.risk_coverage` returns", curve)
    ax = new_axes(ax)
    ax.plot(100 * curve.coverage, curve.risk, **kwargs)
    ax.set(xlabel="coverage, %", ylabel="risk", xlim=(0, 100))
    return ax


def entropy_histogram(
    entropy_in: Any,
    entropy_out: Any = None,
    bins: int = 40,
    ax: Axes | None = None,
    **kwargs,
) -> Axes:
    """Draw how entropy is distributed, in distribution and out of it.

    Args:
        entropy_in: Entropy of each example in distribution, (examples,), in nats, or
            any other score.
        entropy_out: Of those out of it, or None.
        bins: Positive integer, bins of equal width for both.
        ax: Matplotlib axes to draw into. Defaults to those of a new figure.
        **kwargs: Further arguments of `ax.hist`.

    Returns:
        The axes.

    Raises:
        ValueError: For other shapes or numbers.

    Example:

    >>> ax = entropy_histogram([0.1, 0.2], [1.0, 1.2, 1.1])
    >>> ax.get_xlabel()
    'entropy, nats'
    """
    bins = checks.integer("bins", bins, minimum=1)
    values = {"in distribution": vector("entropy_in", entropy_in)}
    if entropy_out is not None:
        values["out of distribution"] = vector("entropy_out", entropy_out)
    ax = new_axes(ax)
    edges = np.histogram_bin_edges(np.concatenate([*values.values()]), bins)
    for label, each in values.items():
        weights = np.full(len(each), 100 / len(each))
        options = {"alpha": 0.6, "label": label, **kwargs}
        ax.hist(each, edges, weights=weights, **options)
    ax.set(xlabel="entropy, nats", ylabel="examples, %")
    ax.legend()
    return ax
