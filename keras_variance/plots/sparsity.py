"""`sparsity_curve`: quality by how much of a model is pruned."""

from collections.abc import Sequence

from keras_variance import checks
from keras_variance.plots.axes import new_axes
from keras_variance.types import Axes


def sparsity_curve(points: Sequence, ax: Axes | None = None, **kwargs) -> Axes:
    """Draw accuracy by the share of weights that are left.

    Args:
        points: A list of `Point`, from `keras_variance.sparsity_curve`.
        ax: Matplotlib axes to draw into. Defaults to those of a new figure.
        **kwargs: Further arguments of `ax.plot`, such as `label`.

    Returns:
        The axes.

    Raises:
        ValueError: If there are no points, or the axes are none.

    Example:

    >>> from keras_variance.inference import Point
    >>> points = [Point(0.0, 0.993, 0.02), Point(0.9, 0.992, 0.03)]
    >>> ax = sparsity_curve(points, label="pruned by standard deviation")
    >>> ax.get_xlabel()
    'weights left, %'
    """
    are_points = isinstance(points, list | tuple) and all(
        hasattr(point, "sparsity") and getattr(point, "accuracy", None) is not None
        for point in points
    )
    expected = (
        "a list of points with an accuracy, one at least, as "
        "`keras_variance.sparsity_curve`'s of classes"
    )
    checks.require(are_points and points, "points", expected, points)
    ax = new_axes(ax)
    left = [100 * (1 - point.sparsity) for point in points]
    accuracies = [100 * point.accuracy for point in points]
    ax.plot(left, accuracies, **{"marker": "o", **kwargs})
    # Few weights are where accuracy begins to fall: to the right, and spread out
    ax.set(xscale="log", xlabel="weights left, %", ylabel="accuracy, %")
    ax.xaxis.set_major_formatter("{x:g}")
    if not ax.xaxis_inverted():
        ax.invert_xaxis()
    return ax
