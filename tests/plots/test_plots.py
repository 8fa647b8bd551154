"""What pictures show, read from their axes."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_variance import metrics, plots


@pytest.fixture
def ax():
    return Figure().subplots()


def test_reliability_diagram(ax, rng):
    p = rng.dirichlet([1.0] * 3, size=90)
    labels = rng.integers(0, 3, 90)
    assert plots.reliability_diagram(labels, p, bins=4, ax=ax, label="a") is ax
    plots.reliability_diagram(labels, p, bins=2, ax=ax, label="b")
    first, diagonal, _ = ax.get_lines()
    index = np.ceil(p.max(axis=1) * 4) - 1
    some = np.unique(index)
    correct = p.argmax(axis=1) == labels
    accuracy = [correct[index == b].mean() for b in some]
    confidence = [p.max(axis=1)[index == b].mean() for b in some]
    np.testing.assert_allclose(first.get_ydata(), accuracy, rtol=1e-5)
    np.testing.assert_allclose(first.get_xdata(), confidence, rtol=1e-5)
    assert [*diagonal.get_xdata()] == [*diagonal.get_ydata()] == [0, 1]


def test_risk_coverage(ax):
    curve = metrics.risk_coverage([0, 0, 1, 0], [0.1, 0.2, 0.9, 0.3])
    (line,) = plots.risk_coverage(curve, ax).get_lines()
    np.testing.assert_allclose(line.get_xdata(), [25, 50, 75, 100])
    np.testing.assert_allclose(line.get_ydata(), [0, 0, 0, 0.25])


def test_entropy_histogram(ax):
    plots.entropy_histogram([0.0, 0.1, 1.0], [0.9, 1.0], bins=2, ax=ax)
    heights = [patch.get_height() for patch in ax.patches]
    np.testing.assert_allclose(heights, [200 / 3, 100 / 3, 0, 100])


def test_predictive_band(ax):
    plots.predictive_band(
        [1.0, 0.0], [3.0, 2.0], [0.5, 0.1], y=[3.5, 2.0], width=1, ax=ax
    )
    (line,) = ax.get_lines()
    assert [*line.get_xdata()] == [0, 1] and [*line.get_ydata()] == [2, 3]
    band, points = ax.collections
    corners = {tuple(each.round(3)) for each in band.get_paths()[0].vertices}
    assert {(0, 1.9), (0, 2.1), (1, 2.5), (1, 3.5)} <= corners
    np.testing.assert_allclose(points.get_offsets(), [[1, 3.5], [0, 2]])


def test_activations_by_class(ax):
    plots.activations_by_class([0.1, 0.2, 1.1], [0, 2, 2], ax)
    offsets = ax.collections[0].get_offsets()
    np.testing.assert_allclose(offsets[:, 0], [0.1, 0.2, 1.1])
    np.testing.assert_allclose(np.round(offsets[:, 1]), [0, 2, 2])
    assert [*ax.get_yticks()] == [0, 2]


def test_phase_transition(ax):
    history = {
        "val_mean_accuracy": [0.9, 0.1],
        "ensemble_accuracy": [0.9, 0.95],
        "loss": [1.0, 0.5],
    }
    lines = plots.phase_transition(history, ax).get_lines()
    found = {line.get_label(): [*line.get_ydata()] for line in lines}
    assert found == {
        "weights at their means": [90, 10],
        "average of samples": [90, 95],
    }
    lines = plots.phase_transition({"sample_accuracy": [0.5]}, ls=":").get_lines()
    assert [line.get_linestyle() for line in lines] == [":"]
