"""`set_train_size`: the number of training examples, for all layers of a model."""

import keras

from keras_variance import checks
from keras_variance.layers.paths import find_variance_layers


def set_train_size(model: keras.Model, train_size: float) -> None:
    """Set `train_size` of all variance layers of a model, nested ones too.

    The KL divergence of layers with a prior is divided by it. It takes effect at
    once, in a compiled model too, and is saved with the model, not with its weights.

    Args:
        model: A Keras model with variance layers, built or not.
        train_size: Number > 0, of examples of the training data (not of a batch, nor
            of batches).

    Raises:
        ValueError: If the model has no variance layer, or for another number.

    Example:

    >>> import keras_variance as kv
    >>> layer = kv.VarianceDense(1, posterior="additive", prior="normal")
    >>> model = keras.Sequential([keras.Input((3,)), layer])
    >>> x, y = keras.ops.ones((64, 3)), keras.ops.ones((64, 1))
    >>> set_train_size(model, len(x))
    >>> model.compile("adam", "mse")
    >>> history = model.fit(x, y, verbose=0)
    """
    layers = find_variance_layers(model)
    train_size = checks.number("train_size", train_size, above=0)
    for layer in layers:
        layer.train_size = train_size
