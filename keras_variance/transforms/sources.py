"""What is random in a model: variance layers and, if asked for, dropout."""

import keras

from keras_variance.layers import (
    VarianceLayer,
    find_variance_layers,
    layer_paths,
    variance_layers,
)

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
    """Raise ValueError if nothing in a model is random."""
    kinds = (VarianceLayer, *DROPOUTS) if dropout else VarianceLayer
    every = layer_paths(model).values() if isinstance(model, keras.Model) else ()
    if not any(isinstance(layer, kinds) for layer in every):
        find_variance_layers(model)  # raises
