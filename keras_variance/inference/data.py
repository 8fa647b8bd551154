"""Data of models with any structure of inputs and outputs."""

from collections.abc import Iterable

import keras
import numpy as np
from keras import ops, tree

from keras_variance import _keras, checks


def are_arrays(x):
    """Whether data is arrays in a structure, and not batches of them."""
    return tree.is_nested(x) or isinstance(x, np.ndarray) or ops.is_tensor(x)


def check_inputs(model, x, name="x"):
    """Raise ValueError if `x` is neither arrays for a model nor batches of them."""
    if are_arrays(x):
        count_examples(name, x)
        _check_fit(name, model, x)
    else:
        several = isinstance(x, Iterable | keras.utils.PyDataset)
        known = several and not isinstance(x, str | bytes)
        checks.require(known, name, "arrays, or a dataset of batches", x)


def check_examples(x, y):
    """The number of examples; ValueError if arrays have different numbers."""
    examples, labels = count_examples("x", x), count_examples("y", y)
    if labels != examples:
        raise ValueError(
            "Arguments `x` and `y` must have the same number of examples, "
            f"{examples} in x. Received: y with {labels} examples"
        )
    return examples


def count_examples(name, arrays):
    """The number of examples; ValueError if it is not one for all, or 0."""
    shapes = [
        getattr(each, "shape", None)
        for each in tree.flatten(arrays)
        if each is not None
    ]
    counts = {shape[0] for shape in shapes if shape}
    if not all(shapes) or len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"Argument `{name}` must be arrays, (examples, …), with the same number of "
            f"examples, one at least. Received: {name}={shapes}"
        )
    return counts.pop()


def _check_fit(name, model, x):
    """Raise ValueError if arrays do not fit the inputs of a Functional model."""
    if not _keras.is_functional(model) or not model.built:
        return
    graph = _keras.graph(model)
    inputs, arrays = graph.input, x
    if isinstance(x, dict):
        if not isinstance(inputs, dict):
            inputs = {each.name: each for each in graph.inputs}
        arrays = {name: x[name] for name in inputs if name in x}
    inputs, arrays = tree.flatten(inputs), tree.flatten(arrays)
    if len(inputs) != len(arrays) or not all(map(_fits, inputs, arrays)):
        raise ValueError(
            f"Argument `{name}` must fit the model's inputs: arrays of shapes "
            f"{[each.shape for each in inputs]}. "
            f"Received: {name}={[getattr(each, 'shape', None) for each in arrays]}"
        )


def _fits(spec, array):
    """Whether an array can be an input. A last axis of size 1 may be left out."""
    if array is None:
        return True
    texts = getattr(array.dtype, "kind", "f") not in "biuf"
    if texts and spec.dtype != "string":
        return False
    axes, shape = spec.shape[1:], tuple(array.shape[1:])
    if len(shape) < len(axes):
        shape = (*shape, 1)
    elif len(shape) > len(axes) and shape[-1] == 1:
        shape = shape[:-1]
    return len(shape) == len(axes) and all(
        wanted in (None, size) for wanted, size in zip(axes, shape, strict=True)
    )
