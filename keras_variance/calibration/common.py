"""What the functions from a model to a calibrated model share."""

import keras
import numpy as np
from keras import ops, tree

from keras_variance import checks
from keras_variance.inference.labels import labelled, resolve_labelled
from keras_variance.likelihoods import Bernoulli, Categorical
from keras_variance.transforms.walk import functional, new_input

TINY = 1e-30
ACTIVATIONS = {Categorical: "softmax", Bernoulli: "sigmoid"}


def one_output(model):
    """Raise ValueError unless a model can be inspected and has one output."""
    checks.model(model)
    outputs = functional(model).outputs
    checks.require(len(outputs) == 1, "model", "a model of one output", model)


def classifier(model, likelihood, *kinds):
    """The likelihood of a classifier's one output.

    Args:
        kinds: Those that can be treated.

    Raises:
        ValueError: If the model is subclassed, or not built, has several outputs,
            another likelihood, or none.
    """
    one_output(model)
    (found,) = tree.flatten(resolve_labelled(model, likelihood))
    expected = "one of " + ", ".join(f"'{kind.__name__.lower()}'" for kind in kinds)
    checks.require(isinstance(found, kinds), "likelihood", expected, found)
    return found


def labels_of(likelihood, y, predictions):
    """Integer labels (m,); ValueError if they are all of one class."""
    ((_, _, y, _),) = labelled(None, likelihood, y, [predictions])
    labels, _ = likelihood.as_classes(y, predictions)
    several = len(np.unique(labels)) > 1
    checks.require(several, "y", "labels of two classes at least", y)
    return labels


def to_logits(outputs, likelihood):
    """Outputs of a classifier as logits, up to a constant."""
    if likelihood.from_logits:
        return outputs
    log = ops.log(ops.maximum(outputs, TINY))
    if isinstance(likelihood, Categorical):
        return log
    return log - ops.log(ops.maximum(1 - outputs, TINY))


def followed_by(model, layer):
    """The model of `layer(model(inputs))`."""
    source = functional(model)
    inputs = tree.map_structure(new_input, source.input)
    return keras.Model(inputs, layer(model(inputs)), name=model.name)
