"""What is random in a model: variance layers and, if asked for, dropout."""

import keras

from keras_variance.layers import (
    find_variance_layers,
    layer_paths,
    variance_layers,
)
from keras_variance.transforms.walk import is_functional, operations

DROPOUTS = (
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)


def is_source(dropout: bool):
    """A function of (operation, kwargs) that is true where a call has its own noise.

    Args:
        dropout: Whether dropout layers have, though not in training.
    """

    def has_noise(operation, kwargs):
        if isinstance(operation, DROPOUTS):
            return bool(dropout or kwargs.get("training"))
        return isinstance(operation, keras.Layer) and bool(variance_layers(operation))

    return has_noise


def check_random(model, dropout: bool):
    """Raise ValueError if nothing in a model is random, dropout cannot be seen, or
    what is random has a state."""
    every = layer_paths(model).values() if isinstance(model, keras.Model) else ()
    noisy = dropout and any(isinstance(layer, DROPOUTS) for layer in every)
    if not noisy:
        find_variance_layers(model)  # raises if there are none
    for each in operations(model) if is_functional(model) else [model]:
        if not isinstance(each, keras.Layer) or isinstance(each, DROPOUTS):
            continue
        inside = layer_paths(each).values()
        if variance_layers(each) and any(map(_is_stateful, inside)):
            raise ValueError(
                f"'{each.name}' keeps a state from one call to the next, which samples "
                "do not have: use `stateful=False`, and give the state as an input. "
                f"Received: layer={each}"
            )
        if dropout and any(map(_has_dropout, inside)):
            raise ValueError(
                f"'{each.name}' has dropout inside that cannot be inspected: use "
                "dropout layers in Sequential and Functional models. "
                f"Received: dropout=True, layer={each}"
            )


def _is_stateful(layer):
    return bool(getattr(layer, "stateful", False))


def _has_dropout(layer):
    rates = (getattr(layer, name, 0) for name in ("dropout", "recurrent_dropout"))
    numbers = (rate for rate in rates if isinstance(rate, int | float))
    return isinstance(layer, DROPOUTS) or any(numbers)
