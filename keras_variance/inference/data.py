"""Data of models with any structure of inputs and outputs."""

from collections.abc import Iterable

import keras
import numpy as np
from keras import ops, tree

from keras_variance import _keras, checks
from keras_variance.transforms.outputs import check_unmasked, for_outputs, resolve

PADDING = "padding would count as data"


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


def check_data(model, x, y, likelihood) -> int:
    """The number of examples; ValueError if `x` and `y` do not fit a model, or an
    output has a mask, which measures do not read.

    Args:
        likelihood: Of each output, as `transforms.outputs.resolve` returned it.
    """
    check_inputs(model, x)
    examples = check_examples(x, y)
    graph = _keras.graph(model) if _keras.is_functional(model) else None
    if graph is None:
        return examples
    check_unmasked(model, PADDING, likelihood)
    shapes = [(examples, *x.shape[1:]) for x in graph.outputs]
    if not any(None in shape for shape in shapes):
        # Before long computations, with any predictions
        predictions = [np.broadcast_to(np.float32(0.5), shape) for shape in shapes]
        for _, each, labels, p in labelled(model, likelihood, y, predictions):
            each.log_likelihood(labels, p)
    return examples


def _in_order(model, y):
    """Labels in a flat list, in the order of the model's outputs."""
    if not _keras.is_functional(model) or not tree.is_nested(y):
        return tree.flatten(y)
    graph = _keras.graph(model)
    outputs, names = graph.output, graph.output_names
    names = [*outputs] if isinstance(outputs, dict) else names
    if not isinstance(y, dict):
        fits = not isinstance(outputs, dict) or len(names) == 1
        checks.require(fits, "y", f"a dict of labels for {names}", y)
        return tree.flatten(y)
    expected = f"labels for {names}, the model's outputs"
    checks.require({*y} <= {*names}, "y", expected, [*y])
    if isinstance(outputs, dict):
        return tree.flatten({**dict.fromkeys(names), **y})
    return [y.get(name) for name in names]


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


def resolve_labelled(model, likelihood):
    """As `transforms.outputs.resolve`; ValueError if no output has a likelihood."""
    resolved = resolve(model, likelihood)
    if all(each is None for each in tree.flatten(resolved)):
        raise ValueError(
            "Argument `likelihood` must say what the model's outputs mean: compile it "
            "with a cross-entropy or a loss of `keras_variance.losses`, end it with a "
            "softmax or a sigmoid, or give 'categorical', 'bernoulli' or 'gaussian'. "
            f"Received: likelihood={likelihood!r}, model={model}"
        )
    return resolved


def labelled(model, likelihood, y, predictions):
    """Outputs that have a likelihood, with their labels.

    Args:
        model: The model, or None for one with one output.
        likelihood: Of each output, as `transforms.outputs.resolve` returned it.
        y: Labels, in the structure of the outputs; one that has no likelihood needs
            none.
        predictions: A flat list of predictions, one for each output.

    Returns:
        A list of (output's number, likelihood, labels, prediction).
    """
    likelihood = for_outputs(likelihood, predictions)
    alone = len(predictions) == 1 and not isinstance(y, dict)
    y = [y] if alone else _in_order(model, y)
    known = [each is not None for each in likelihood]
    if len(y) == sum(known):
        rest = iter(y)
        y = [next(rest) if each else None for each in known]
    absent = any(each is None for each, one in zip(y, known, strict=False) if one)
    if len(y) != len(predictions) or absent:
        raise ValueError(
            f"Argument `y` must have labels for each of the model's {len(predictions)} "
            f"outputs, in their structure. Received: y with {len(y)} arrays"
        )
    return [
        (k, each, np.asarray(labels), p)
        for k, (each, labels, p) in enumerate(
            zip(likelihood, y, predictions, strict=True)
        )
        if each is not None
    ]
