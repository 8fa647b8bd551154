"""The masks of a model's outputs, which tell padding from data."""

import keras
from keras import tree

from keras_variance import _keras, checks


class Masks(keras.Model):
    """The masks of a model's outputs in their place.

    Its output is a dict: number of an output, as a string, and mask, boolean, (batch,
    …), of those that have one. It runs the model: of a symbolic output of a nested
    model Keras knows no mask.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, inputs, training=None):
        outputs = tree.flatten(self.model(inputs, training=False))
        masks = {str(k): _keras.get_mask(x) for k, x in enumerate(outputs)}
        return {k: x for k, x in masks.items() if x is not None}


def masked_outputs(model, inputs) -> set[int]:
    """The numbers of the outputs that have a mask.

    Args:
        inputs: Symbolic inputs of the model, in its structure.
    """
    return {int(k) for k in _keras.trace(Masks(model).call, inputs)}


def check_unmasked(model, lost):
    """Raise ValueError if an output has a mask, as far as inputs are known.

    Args:
        lost: What comes of it.
    """
    if _keras.is_functional(model) and _keras.graph(model) is not None:
        found = masked_outputs(model, _keras.graph(model).input)
        expected = f"a model whose outputs have no mask: {lost}"
        checks.require(not found, "model", expected, model)
