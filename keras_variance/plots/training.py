"""Pictures of what a variance layer has learned."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_variance import checks
from keras_variance.metrics.arrays import same_length, vector
from keras_variance.plots.axes import new_axes
from keras_variance.types import Axes

# Title and style of a line: for many epochs some of them coincide
LINES = {
    "mean_accuracy": ("weights at their means", "-"),
    "sample_accuracy": ("one sample", "--"),
    "ensemble_accuracy": ("average of samples", "-"),
    "zero_mean_accuracy": ("one sample, without means", ":"),
}


def activations_by_class(
    stddev: ArrayLike, y: ArrayLike, ax: Axes | None = None, **kwargs
) -> Axes:
    """Draw the standard deviation of a neuron's activation, example by example.

    Where the weights' means are 0, all that a neuron says of a class is here.

    Args:
        stddev: Standard deviation of the activation over noise, (examples,).
        y: Integer labels, (examples,).
        ax: Matplotlib axes to draw into. Defaults to those of a new figure.
        **kwargs: Further arguments of `ax.scatter`.

    Returns:
        The axes: classes are rows, their points spread out at random.

    Raises:
        ValueError: For other shapes or numbers.

    Example:

    >>> ax = activations_by_class([0.1, 0.2, 1.1], [0, 0, 1])
    >>> ax.get_ylabel()
    'class'

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764), figure 9.
    """
    stddev, y = vector("stddev", stddev), vector("y", y)
    same_length("y", y, stddev)
    ax = new_axes(ax)
    jitter = np.random.default_rng(0).uniform(-0.35, 0.35, len(y))
    ax.scatter(stddev, y + jitter, **{"s": 4, "c": y, "cmap": "tab10", **kwargs})
    ax.set(xlabel="stddev of activation", ylabel="class")
    ax.set(xlim=(0, None), yticks=np.unique(y))
    return ax


def phase_transition(history: Any, ax: Axes | None = None, **kwargs) -> Axes:
    """Draw accuracies of several predictors, epoch by epoch.

    As variational dropout becomes a variance network, predictions with the weights at
    their means fall to chance; those of samples stay.

    Args:
        history: A dict of lists, `history.history` of a `fit` with
            `callbacks.MCPredict`: those of `mean_accuracy`, `sample_accuracy`,
            `ensemble_accuracy` and `zero_mean_accuracy` that are there, with `val_`
            before them or not, from 0 to 1.
        ax: Matplotlib axes to draw into. Defaults to those of a new figure.
        **kwargs: Further arguments of `ax.plot`.

    Returns:
        The axes.

    Raises:
        ValueError: If none of these is there, or the axes are none.

    Example:

    >>> history = {"val_mean_accuracy": [0.9, 0.1], "val_ensemble_accuracy": [0.9, 0.9]}
    >>> ax = phase_transition(history)
    >>> ax.get_ylabel()
    'accuracy, %'

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764), figure 3.
    """
    is_dict = isinstance(history, dict)
    found = {
        name: history.get(f"val_{name}", history.get(name))
        for name in (LINES if is_dict else ())
    }
    found = {name: values for name, values in found.items() if values is not None}
    expected = f"a dict with some of {[*LINES]}, with or without 'val_'"
    checks.require(found, "history", expected, history)
    found = {name: vector("history", values) for name, values in found.items()}
    ax = new_axes(ax)
    from matplotlib import cbook, lines

    kwargs = cbook.normalize_kwargs(kwargs, lines.Line2D)  # "ls" is "linestyle"
    for name, values in found.items():
        title, style = LINES[name]
        epochs = np.arange(1, len(values) + 1)
        ax.plot(epochs, 100 * values, **{"label": title, "linestyle": style, **kwargs})
    ax.set(xlabel="epoch", ylabel="accuracy, %", ylim=(0, 102))
    ax.legend()
    return ax
