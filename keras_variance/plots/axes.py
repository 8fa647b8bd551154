"""Axes to draw into."""

from keras_variance import checks


def new_axes(ax):
    """Matplotlib axes as given, or those of a new figure.

    Raises:
        ValueError: If they are none.
    """
    has_axes = ax is None or (hasattr(ax, "plot") and hasattr(ax, "set_xlabel"))
    checks.require(has_axes, "ax", "Matplotlib axes, or None", ax)
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots()[1]
    return ax
