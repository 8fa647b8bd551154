"""Labelled data of models with any structure of inputs and outputs."""

import numpy as np
from keras import tree

from keras_variance import likelihoods


def check_examples(x, y):
    """The number of examples; ValueError if arrays have different numbers."""
    counts = {len(each) for each in tree.flatten(x)}
    labels = {len(each) for each in tree.flatten(y) if each is not None}
    if len(counts) != 1 or labels - counts:
        raise ValueError(
            "Arguments `x` and `y` must have the same number of examples, "
            f"{sorted(counts)} in x. Received: y with {sorted(labels)} examples"
        )
    return counts.pop()


def resolve_labelled(model, likelihood):
    """As `likelihoods.resolve`; ValueError if no output has a likelihood."""
    resolved = likelihoods.resolve(model, likelihood)
    if all(each is None for each in tree.flatten(resolved)):
        raise ValueError(
            "Argument `likelihood` must say what the model's outputs mean: compile it "
            "with a cross-entropy, end it with a softmax or a sigmoid, or give "
            "'categorical' or 'bernoulli'. "
            f"Received: likelihood={likelihood!r}, model={model}"
        )
    return resolved


def labelled(likelihood, y, predictions):
    """Outputs that have a likelihood, with their labels.

    Args:
        likelihood: Of each output, as `likelihoods.resolve` returned it.
        y: Labels, in the structure of the outputs; one that has no likelihood needs
            none.
        predictions: A flat list of predictions, one for each output.

    Returns:
        A list of (output's number, likelihood, labels, prediction).
    """
    likelihood = likelihoods.for_outputs(likelihood, predictions)
    y = [y] if len(predictions) == 1 and not isinstance(y, dict) else tree.flatten(y)
    known = [each is not None for each in likelihood]
    if len(y) == sum(known):
        rest = iter(y)
        y = [next(rest) if each else None for each in known]
    if len(y) != len(predictions):
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
