"""Pictures of predicted numbers."""

import numpy as np
from numpy.typing import ArrayLike

from keras_variance import checks
from keras_variance.metrics.arrays import same_length, vector
from keras_variance.plots.axes import new_axes
from keras_variance.types import Axes


def predictive_band(
    x: ArrayLike,
    mean: ArrayLike,
    stddev: ArrayLike,
    y: ArrayLike | None = None,
    width: float = 2.0,
    ax: Axes | None = None,
    **kwargs,
) -> Axes:
    """Draw means with a band of standard deviations, by one input.

    Args:
        x: The input of each example, (examples,), in any order.
        mean: Predicted means, (examples,).
        stddev: Standard deviations ≥ 0, (examples,): a `Prediction`'s `stddev`.
        y: Targets of the examples, drawn as points, or None.
        width: Number > 0, standard deviations to each side of the mean.
        ax: Matplotlib axes to draw into. Defaults to those of a new figure.
        **kwargs: Further arguments of `ax.plot`, such as `label`.

    Returns:
        The axes.

    Raises:
        ValueError: For other shapes or numbers.

    Example:

    >>> ax = predictive_band([0.0, 1.0, 2.0], [0.0, 1.0, 4.0], [0.1, 0.1, 0.5])
    >>> len(ax.get_lines())
    1
    """
    width = checks.number("width", width, above=0)
    x = vector("x", x)
    columns = {"mean": mean, "stddev": stddev} | ({} if y is None else {"y": y})
    vectors = {name: vector(name, values) for name, values in columns.items()}
    for name, values in vectors.items():
        same_length(name, values, x)
    mean, stddev = vectors["mean"], vectors["stddev"]
    checks.require((stddev >= 0).all(), "stddev", "≥ 0", stddev)
    ax = new_axes(ax)
    order = np.argsort(x)
    (line,) = ax.plot(x[order], mean[order], **kwargs)
    low, high = mean - width * stddev, mean + width * stddev
    band = {"color": line.get_color(), "alpha": 0.25, "linewidth": 0}
    ax.fill_between(x[order], low[order], high[order], **band)
    if y is not None:
        ax.scatter(x, vectors["y"], s=4, color="black", zorder=3)
    ax.set(xlabel="x", ylabel="y")
    return ax
