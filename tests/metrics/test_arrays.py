"""Metrics of all examples at once, against scikit-learn, SciPy and brute force."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from keras_variance.metrics import (
    ExpectedCalibrationError,
    accuracy_at_coverage,
    adaptive_calibration_error,
    ood_metrics,
    risk_coverage,
)


@pytest.fixture
def classes(rng):
    p = rng.dirichlet([0.3] * 4, size=210)
    return rng.integers(0, 4, 210), p


def brute_force_adaptive(labels, p, bins):
    """Of bins that are slices of the sorted confidences, which are all different."""
    order = np.argsort(p.max(axis=1))
    total = 0.0
    for rows in np.split(order, bins):
        accuracy = np.mean(p[rows].argmax(axis=1) == labels[rows])
        total += len(rows) / len(p) * abs(accuracy - p[rows].max(axis=1).mean())
    return total


@pytest.mark.parametrize("bins", [1, 2, 7, 210])
def test_adaptive_against_brute_force(bins, classes):
    labels, p = classes
    expected = brute_force_adaptive(labels, p, bins)
    for y in (labels, labels[:, None], np.eye(4)[labels]):
        assert adaptive_calibration_error(y, p, bins) == pytest.approx(expected)


def test_adaptive_of_one_bin_is_that_of_equal_width(classes):
    labels, p = classes
    expected = float(ExpectedCalibrationError(bins=1)(labels, p))
    assert adaptive_calibration_error(labels, p, 1) == pytest.approx(expected, rel=1e-5)


def test_adaptive_with_equal_confidences(rng):
    """The order of examples is irrelevant, and equal ones share a bin."""
    p = np.repeat([[0.75, 0.25], [0.5, 0.5]], 10, axis=0)
    labels = rng.integers(0, 2, 20)
    share = [np.mean(labels[rows] == 0) for rows in (slice(10), slice(10, 20))]
    expected = abs(share[0] - 0.75) / 2 + abs(share[1] - 0.5) / 2
    for _ in range(3):
        order = rng.permutation(20)
        value = adaptive_calibration_error(labels[order], p[order], bins=8)
        assert value == pytest.approx(expected)


@pytest.mark.parametrize("ties", [False, True])
def test_ood_against_definitions(ties, rng):
    inside, outside = rng.normal(size=70), rng.normal(1, size=50)
    if ties:
        inside, outside = np.round(inside), np.round(outside)
    result = ood_metrics(inside, outside)
    larger = outside[:, None] > inside
    equal = outside[:, None] == inside
    assert result.auroc == pytest.approx(np.mean(larger + equal / 2))
    statistic = stats.mannwhitneyu(outside, inside).statistic
    assert result.auroc == pytest.approx(statistic / (50 * 70))
    # Average precision: Σ (recall_n − recall_(n − 1)) precision_n
    area, last = 0.0, 0.0
    for threshold in np.unique(np.concatenate([inside, outside]))[::-1]:
        hits, alarms = np.sum(outside >= threshold), np.sum(inside >= threshold)
        area += (hits / 50 - last) * hits / (hits + alarms)
        last = hits / 50
    assert result.aupr == pytest.approx(area)
    flagged = [x for x in outside if np.mean(outside >= x) >= 0.95]
    assert result.fpr95 == pytest.approx(np.mean(inside >= max(flagged)))
    is_out = np.repeat([0, 1], [70, 50])
    both = np.concatenate([inside, outside])
    assert result.auroc == metrics.roc_auc_score(is_out, both)


def test_ood_of_perfect_scores_and_of_none():
    assert ood_metrics([0.0, 1.0], [2.0, 3.0]) == (1, 1, 0)
    assert ood_metrics([2.0, 3.0], [0.0, 1.0])[::2] == (0, 1)


def test_risk_coverage_against_brute_force(rng):
    losses, uncertainty = rng.uniform(size=50), rng.uniform(size=50)
    curve = risk_coverage(losses, uncertainty)
    order = np.argsort(uncertainty)
    expected = [losses[order[: k + 1]].mean() for k in range(50)]
    np.testing.assert_allclose(curve.risk, expected)
    np.testing.assert_allclose(curve.coverage, np.arange(1, 51) / 50)
    assert curve.area == pytest.approx(np.mean(expected))
    correct = rng.integers(0, 2, 50)
    for coverage in (0.01, 0.5, 0.9, 1.0):
        kept = order[: max(1, round(coverage * 50))]
        value = accuracy_at_coverage(correct, uncertainty, coverage)
        assert value == pytest.approx(correct[kept].mean())


def test_risk_coverage_with_ties_is_the_average_over_orders():
    losses, uncertainty = np.array([1.0, 0, 0, 1, 3]), np.array([1, 0, 1, 1, 2])
    curves = []
    for order in itertools.permutations(range(5)):
        order = np.array(order)
        ranked = order[np.argsort(uncertainty[order], kind="stable")]
        curves.append(np.cumsum(losses[ranked]) / np.arange(1, 6))
    expected = np.mean(curves, axis=0)
    np.testing.assert_allclose(risk_coverage(losses, uncertainty).risk, expected)


@pytest.mark.parametrize(
    "function, name",
    [
        (lambda bad: adaptive_calibration_error([0, 1], bad), "y_pred"),
        (lambda bad: ood_metrics(bad, [1.0]), "scores_in"),
        (lambda bad: ood_metrics([1.0], bad), "scores_out"),
        (lambda bad: risk_coverage(bad, [1.0]), "losses"),
        (lambda bad: risk_coverage([1.0], bad), "uncertainty"),
        (lambda bad: accuracy_at_coverage(bad, [1.0]), "correct"),
    ],
)
@pytest.mark.parametrize("bad", [[], [np.nan], [[1.0], [np.inf]], ["a"], [[[1.0]]]])
def test_bad_arrays(function, name, bad):
    match = rf"^Argument `{name}` must .*Received: {name}(\.shape)?="
    with pytest.raises(ValueError, match=match):
        function(bad)


def test_other_bad_arguments():
    with pytest.raises(ValueError, match=r"`uncertainty` must be one number for each"):
        risk_coverage([1.0], [1.0, 2.0])
    for coverage in (0, 1.5, np.nan):
        with pytest.raises(ValueError, match=r"Argument `coverage` must be"):
            accuracy_at_coverage([1], [1.0], coverage)
