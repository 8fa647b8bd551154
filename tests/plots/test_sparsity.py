import pytest
from matplotlib import pyplot

import keras_variance as kv
from keras_variance.inference import Point

POINTS = [Point(0.0, 0.993, 0.02), Point(0.98, 0.992, 0.03)]


def test_sparsity_curve():
    ax = kv.plots.sparsity_curve(POINTS, label="seed 0")
    kv.plots.sparsity_curve(POINTS[:1], ax, label="seed 1")
    first, second = ax.get_lines()
    assert list(first.get_xdata()) == pytest.approx([100, 2])
    assert list(first.get_ydata()) == pytest.approx([99.3, 99.2])
    assert second.get_label() == "seed 1"
    assert ax.xaxis_inverted()
    ax.figure.canvas.draw()
    labels = [tick.get_text() for tick in ax.get_xticklabels()]
    assert {"100", "10"} <= set(labels)
    pyplot.close(ax.figure)


def test_no_points():
    with pytest.raises(ValueError, match=r"Argument `points` .* Received: points=\[\]"):
        kv.plots.sparsity_curve([])
