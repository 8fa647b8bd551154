"""Metrics that do not stream, and need all examples at once: functions of arrays."""

from typing import NamedTuple

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_variance import checks
from keras_variance.metrics.calibration import classes_of


def adaptive_calibration_error(
    y_true: ArrayLike, y_pred: ArrayLike, bins: int = 15
) -> float:
    """Expected calibration error with bins of equal mass.

        ECE = Σ_b n_b/n |accuracy_b − confidence_b|

    as `ExpectedCalibrationError`, but edges of bins are quantiles of the confidence:
    most predictions of a good classifier are sure, and bins of equal width leave all
    but one nearly empty. Examples of equal confidence share a bin.

    Args:
        y_true: Integer labels, (examples,) or (examples, 1), or one-hot, (examples,
            classes).
        y_pred: Probabilities, (examples, classes).
        bins: Positive integer, the number of bins B.

    Returns:
        A float.

    Raises:
        ValueError: For other shapes, NaN, or `bins` that is no positive integer.

    Example:

    >>> y_pred = [[0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.9, 0.1]]
    >>> y_true = [1, 0, 0, 0]  # 2/4 |1/2 − 0.65| + 2/4 |1 − 0.85|
    >>> round(adaptive_calibration_error(y_true, y_pred, bins=2), 6)
    0.15

    Reference: Nguyen & O'Connor, Posterior Calibration and Exploratory Analysis for
    Natural Language Processing Models (https://arxiv.org/abs/1508.05154), section 3.2.
    """
    bins = checks.integer("bins", bins, minimum=1)
    labels, p = one_hot_labels(y_true, y_pred)
    rows, predicted = np.arange(len(p)), p.argmax(axis=-1)
    confidence, correct = p[rows, predicted], labels[rows, predicted]
    ranks = -(np.arange(1, bins) * len(p) // -bins)  # rounded up
    edges = np.sort(confidence)[ranks - 1]
    index = np.searchsorted(edges, confidence)
    gap = np.bincount(index, correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(p))


class OODMetrics(NamedTuple):
    """How well scores separate out-of-distribution examples; each from 0 to 1.

    Attributes:
        auroc: The probability that an example out of distribution has a higher score
            than one in it: 0.5 is chance, 1 best.
        aupr: Average precision, with examples out of distribution as the positives:
            their share is chance, 1 best.
        fpr95: The share of examples in distribution that are flagged at the highest
            threshold which flags at least 95 % of those out of it: 0 is best.
    """

    auroc: float
    aupr: float
    fpr95: float


def ood_metrics(scores_in: ArrayLike, scores_out: ArrayLike) -> OODMetrics:
    """How well scores separate examples out of distribution from those in it.

    By scikit-learn: `pip install keras_variance[metrics]`.

    Args:
        scores_in: Scores of examples in distribution, (examples,): the higher, the
            more out of distribution, as `calibration.ood_score` gives them.
        scores_out: Scores of examples out of distribution, (examples,).

    Returns:
        An `OODMetrics`.

    Raises:
        ValueError: For other shapes, no examples, or scores that are not finite.

    Example:

    >>> ood_metrics([0.1, 0.2, 0.6, 0.3], [0.5, 0.7, 0.8, 0.9])
    OODMetrics(auroc=0.9375, aupr=0.95, fpr95=0.25)

    Reference: Hendrycks & Gimpel, A Baseline for Detecting Misclassified and
    Out-of-Distribution Examples (https://arxiv.org/abs/1610.02136).
    """
    from sklearn import metrics

    both = vector("scores_in", scores_in), vector("scores_out", scores_out)
    scores = np.concatenate(both)
    is_out = np.repeat([0, 1], [len(each) for each in both])
    fpr, tpr, _ = metrics.roc_curve(is_out, scores, drop_intermediate=False)
    return OODMetrics(
        float(metrics.roc_auc_score(is_out, scores)),
        float(metrics.average_precision_score(is_out, scores)),
        float(fpr[np.argmax(tpr >= 0.95)]),
    )


class RiskCoverage(NamedTuple):
    """Average loss by the share of examples that are kept, the most certain first.

    Attributes:
        coverage: (examples,), 1/n, 2/n, … 1.
        risk: (examples,), the average loss of the examples that are kept.
        area: The average risk over these coverages.
    """

    coverage: np.ndarray
    risk: np.ndarray
    area: float


def risk_coverage(losses: ArrayLike, uncertainty: ArrayLike) -> RiskCoverage:
    """The risk of a model that abstains from what it is least certain of.

        risk(i/n) = 1/i Σ loss of the i most certain examples

    The order of equally certain examples is irrelevant: their risk is the average over
    all orders.

    Args:
        losses: Loss of each example, (examples,): 1 for a wrong class and 0 for the
            right one, or any number.
        uncertainty: (examples,), as a `Prediction`'s `entropy` or
            `mutual_information`.

    Returns:
        A `RiskCoverage`; its area is the AURC.

    Raises:
        ValueError: For other shapes, no examples, or numbers that are not finite.

    Example:

    >>> curve = risk_coverage([0, 0, 1, 0], [0.1, 0.2, 0.9, 0.3])
    >>> curve.risk.tolist(), curve.area
    ([0.0, 0.0, 0.0, 0.25], 0.0625)

    Reference: Geifman & El-Yaniv, Selective Classification for Deep Neural Networks
    (https://arxiv.org/abs/1705.08500), equation 2.
    """
    losses, uncertainty = vector("losses", losses), vector("uncertainty", uncertainty)
    same_length("uncertainty", uncertainty, losses)
    _, group = np.unique(uncertainty, return_inverse=True)
    average = np.bincount(group, losses) / np.bincount(group)
    kept = np.arange(1, len(losses) + 1)
    risk = np.cumsum(average[np.sort(group)]) / kept
    return RiskCoverage(kept / len(losses), risk, float(risk.mean()))


def accuracy_at_coverage(
    correct: ArrayLike, uncertainty: ArrayLike, coverage: float = 0.9
) -> float:
    """Accuracy on the most certain examples.

    Args:
        correct: Whether each example is classified rightly, (examples,).
        uncertainty: (examples,), as for `risk_coverage`.
        coverage: Number above 0 and at most 1, the share of examples that are kept,
            rounded up to whole examples.

    Returns:
        A float from 0 to 1.

    Raises:
        ValueError: As `risk_coverage`, or for another coverage.

    Example:

    >>> accuracy_at_coverage([1, 1, 0, 1], [0.1, 0.2, 0.9, 0.3], coverage=0.75)
    1.0
    """
    coverage = checks.number("coverage", coverage, above=0)
    checks.require(coverage <= 1, "coverage", "at most 1", coverage)
    curve = risk_coverage(1 - vector("correct", correct), uncertainty)
    kept = int(np.ceil(coverage * len(curve.risk) - 1e-9))
    return float(1 - curve.risk[kept - 1])


def one_hot_labels(y_true, y_pred):
    """One-hot labels and probabilities, arrays (examples, classes); ValueError for
    others."""
    y_true, y_pred = array("y_true", y_true), array("y_pred", y_pred)
    labels, _ = classes_of(y_true, y_pred, False, "float32")
    same_length("y_true", y_true, y_pred)
    return ops.convert_to_numpy(labels), y_pred.astype("float64")


def array(name, values):
    """An array of finite numbers; ValueError for others."""
    values = ops.convert_to_numpy(values) if ops.is_tensor(values) else values
    values = np.asarray(values)
    numeric = np.issubdtype(values.dtype, np.number) or values.dtype == bool
    fits = numeric and values.size > 0 and np.isfinite(values).all()
    checks.require(fits, name, "finite numbers, one at least", values)
    return values


def vector(name, values):
    """A vector of finite numbers, in double precision; ValueError for others."""
    values = array(name, values)
    checks.require(values.ndim == 1, name, "of shape (examples,)", values)
    return values.astype("float64")


def same_length(name, values, others):
    """Raise ValueError unless there is a value for each example."""
    expected = f"one number for each of {len(others)} examples"
    checks.require(len(values) == len(others), name, expected, values)
