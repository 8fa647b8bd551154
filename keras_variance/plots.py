"""Pictures. They need matplotlib: `pip install keras_variance[plots]`."""

from keras_variance import checks

__all__ = ["sparsity_curve"]


def sparsity_curve(points, ax=None, **kwargs):
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
        hasattr(point, "sparsity") and hasattr(point, "accuracy") for point in points
    )
    expected = "a list of points, one at least, as `keras_variance.sparsity_curve`'s"
    checks.require(are_points and points, "points", expected, points)
    has_axes = ax is None or hasattr(ax, "plot")
    checks.require(has_axes, "ax", "Matplotlib axes, or None", ax)
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots()[1]
    left = [100 * (1 - point.sparsity) for point in points]
    accuracies = [100 * point.accuracy for point in points]
    ax.plot(left, accuracies, **{"marker": "o", **kwargs})
    # Few weights are where accuracy begins to fall: to the right, and spread out
    ax.set(xscale="log", xlabel="weights left, %", ylabel="accuracy, %")
    ax.xaxis.set_major_formatter("{x:g}")
    if not ax.xaxis_inverted():
        ax.invert_xaxis()
    return ax
