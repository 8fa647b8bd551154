"""Labels of a model's outputs, beside its predictions: padding does not count."""

import numpy as np
from keras import ops, tree

from keras_variance import _keras, checks
from keras_variance.inference.data import check_examples, check_inputs
from keras_variance.inference.predict import kept, predict
from keras_variance.random import seeded
from keras_variance.transforms.masks import Masks, masked_outputs
from keras_variance.transforms.outputs import for_outputs, resolve


class Labels:
    """Labels of a model's outputs that fit them.

    Args:
        model: The model.
        x: Arrays, (examples, …), in the structure of the model's inputs.
        y: Labels, in the structure of the outputs; one that has no likelihood needs
            none.
        likelihood: Of each output, as `transforms.outputs.resolve` returned it.
        batch_size: As for `model.predict`, which masks need.

    Attributes:
        examples: Their number.

    Raises:
        ValueError: If `x` or `y` does not fit the model.
    """

    def __init__(self, model, x, y, likelihood, batch_size=None):
        check_inputs(model, x)
        self.examples = check_examples(x, y)
        self.model, self.y, self.likelihood = model, y, likelihood
        self.masks = masks(model, x, batch_size)
        graph = _keras.graph(model) if _keras.is_functional(model) else None
        if graph is None:
            return
        shapes = [(self.examples, *x.shape[1:]) for x in graph.outputs]
        if not any(None in shape for shape in shapes):
            # Before long computations, with any predictions
            any_values = [np.broadcast_to(np.float32(0.5), shape) for shape in shapes]
            for _, each, y, p in self.beside(any_values):
                each.log_likelihood(y, p)

    def beside(self, predictions):
        """Outputs that have a likelihood, with their labels, without padding.

        Args:
            predictions: A flat list of predictions (examples, …), one for each output.

        Returns:
            A list of (output's number, likelihood, labels, prediction).
        """
        each = labelled(self.model, self.likelihood, self.y, predictions)
        return [
            (k, likelihood, self.unpadded(k, y), self.unpadded(k, p))
            for k, likelihood, y, p in each
        ]

    def unpadded(self, number, values):
        """Values (examples, …) of an output, those that are no padding: (m, …)."""
        return unpadded(self.masks.get(number), values)

    def padded(self, number, values):
        """Of values (m, …) without padding the array (examples, …), 0 in padding."""
        mask = self.masks.get(number)
        if mask is None:
            return values
        whole = np.zeros((*mask.shape, *values.shape[1:]), values.dtype)
        whole[mask] = values
        return whole


def masks(model, x, batch_size=None):
    """The masks of a model's outputs, {output's number: boolean array (examples, …)}.

    Args:
        x: Arrays, (examples, …), in the structure of the model's inputs.
    """
    if not _has_masks(model, x):
        return {}
    predictor = kept(model, Masks)
    with seeded(predictor, 0):  # the model's own noise goes on where it was
        found = predict(predictor, x, batch_size, verbose=0)
    for mask in found.values():
        checks.require(mask.any(), "x", "data that is not all masked", x)
    return {int(k): mask.astype(bool) for k, mask in found.items()}


def _has_masks(model, x):
    """Whether an output of a model has one: by a trace or, of a subclassed model,
    whose inputs are not known, by a call with one example."""
    if _keras.is_functional(model) and _keras.graph(model) is not None:
        return bool(masked_outputs(model, _keras.graph(model).input))
    example = tree.map_structure(lambda each: ops.convert_to_tensor(each[:1]), x)
    with seeded(model, 0):
        return bool(Masks(model)(example))


def unpadded(mask, values):
    """Values (examples, …), those that a mask keeps: (m, …). All for no mask."""
    if mask is None or values is None:
        return values
    fits = values.shape[: mask.ndim] == mask.shape
    checks.require(fits, "y", f"labels for masked outputs, {mask.shape}", values.shape)
    return values[mask]


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
