"""Pictures. They need matplotlib: `pip install keras_variance[plots]`."""


def sparsity_curve(points, ax=None, **kwargs):
    """Draw accuracy by the share of weights that are left.

    Args:
        points: A list of `Point`, from `keras_variance.sparsity_curve`.
        ax: Matplotlib axes to draw into. Defaults to those of a new figure.
        **kwargs: Further arguments of `ax.plot`, such as `label`.

    Returns:
        The axes.

    Raises:
        ValueError: If there are no points.

    Example:

    >>> from keras_variance.inference import Point
    >>> points = [Point(0.0, 0.993, 0.02), Point(0.9, 0.992, 0.03)]
    >>> ax = sparsity_curve(points, label="pruned by standard deviation")
    >>> ax.get_xlabel()
    'weights left, %'
    """
    points = list(points)
    if not points:
        raise ValueError(
            "Argument `points` must have a point at least, as "
            f"`keras_variance.sparsity_curve` returns. Received: points={points}"
        )
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
