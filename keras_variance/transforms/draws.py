"""`draw`: one sample of the weights, as a stock Keras model."""

import keras

from keras_variance import _keras, checks
from keras_variance.layers.paths import find_variance_layers
from keras_variance.random import SeedGenerator, Stream
from keras_variance.transforms.rebuild import assign, rebuild
from keras_variance.transforms.walk import check_visible
from keras_variance.types import AnyLayers


def draw(
    model: keras.Model, seed: int | None = None, layers: AnyLayers = None
) -> keras.Model:
    """One sample of the weights as a model of stock Keras layers.

    The result needs nothing of this package, and is as fast as any Keras model. It
    shares nothing with the source: all weights are copies.

    Args:
        model: A built Sequential or Functional model with variance layers.
        seed: Integer that makes the draw repeatable.
        layers: Variance layers of the model, or their paths, as `"encoder/dense"`, to
            draw; others stay stochastic. Defaults to all.

    Returns:
        A model with the same nesting and names, deterministic if all layers are
        drawn.

    Raises:
        ValueError: If the model has no variance layer, or one that can't be drawn,
            or `layers` are not the model's.

    Example:

    >>> import keras
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential([keras.Input((4,)), VarianceDense(3)])
    >>> type(draw(model, seed=0).layers[-1]).__name__
    'Dense'
    """
    clones = []

    def clone(layer):
        clones.append((_keras.clone(layer), layer))
        return clones[-1][0]

    drawn = draw_layers(model, seed, layers, clone)
    for new, old in clones:
        for variable, value in zip(new.variables, old.variables, strict=True):
            assign(variable, value)
    return drawn


def draw_layers(model, seed, layers=None, other=lambda layer: layer):
    """As `draw`, with `other(layer)` in the place of the layers that are not drawn."""
    chosen = find_variance_layers(model, layers)
    check_visible(model)
    generator = SeedGenerator(checks.seed(seed))
    made = []

    def make(layer):
        if layer not in chosen:
            return other(layer)
        made.append(layer.drawn(Stream(generator.next())))
        return made[-1][0]

    drawn = rebuild(model, make)
    for layer, values in made:
        for variable, value in zip(layer.variables, values, strict=True):
            assign(variable, value)
    return drawn
