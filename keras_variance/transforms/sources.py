"""What is random in a model: variance layers and, if asked for, dropout."""

import keras

from keras_variance.layers import layer_paths, variance_layers
from keras_variance.layers.paths import find_variance_layers
from keras_variance.layers.weights import RandomWeights
from keras_variance.transforms.walk import hides, is_functional, operations

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

    hides_one = hides_noise(dropout)

    def has_noise(operation, kwargs):
        if isinstance(operation, DROPOUTS):
            return bool(dropout or kwargs.get("training"))
        return isinstance(operation, RandomWeights) or hides_one(operation)

    return has_noise


def hides_noise(dropout: bool):
    """A function of an operation that is true of layers with noise inside.

    Args:
        dropout: Whether dropout layers have, too.
    """

    def hides_one(operation):
        if isinstance(operation, (RandomWeights, *DROPOUTS)):
            return False
        if dropout and isinstance(operation, keras.Layer):
            inside = layer_paths(operation).values()
            if any(map(_has_dropout, inside)):
                return True
        return hides(operation)

    return hides_one


def is_random(model, dropout: bool) -> bool:
    """Whether a model has variance layers or, if asked for, dropout."""
    every = layer_paths(model).values()
    noisy = dropout and any(isinstance(layer, DROPOUTS) for layer in every)
    return noisy or bool(variance_layers(model))


def check_random(model, dropout: bool):
    """Raise ValueError if nothing in a model is random, or `check_visible_noise` does;
    of a subclassed model the inputs are needed before that."""
    if not (isinstance(model, keras.Model) and is_random(model, dropout)):
        find_variance_layers(model)  # raises
    if is_functional(model):
        check_visible_noise(operations(model, hides_noise(dropout)), dropout)


def check_visible_noise(operations, dropout: bool):
    """Raise ValueError if dropout in an operation cannot be seen, or what is random in
    it has a state."""
    for each in operations:
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
