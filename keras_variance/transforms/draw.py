"""`draw`: one sample of the weights, as a stock Keras model."""

import inspect

import keras

from keras_variance import _keras, checks
from keras_variance.layers import (
    VarianceLayer,
    effective_kernel,
    find_variance_layers,
)
from keras_variance.random import SeedGenerator, Stream
from keras_variance.transforms.rebuild import assign, rebuild
from keras_variance.transforms.walk import check_visible

# What `VarianceLayer` adds to the configuration of a stock layer.
ADDED = [
    parameter.name
    for parameter in inspect.signature(VarianceLayer.__init__).parameters.values()
    if parameter.kind is parameter.KEYWORD_ONLY
]


def draw(model, seed: int | None = None, layers=None):
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

    def make(layer):
        return _draw_layer(layer, generator) if layer in chosen else other(layer)

    return rebuild(model, make)


def _draw_layer(layer, generator):
    random = layer.random_linear()
    kernel = random.sample_kernel(Stream(generator.next()))
    kernel = kernel if random.mean is None else random.mean + kernel
    config = {k: v for k, v in layer.get_config().items() if k not in ADDED}
    stock = _stock_class(layer).from_config(config)
    stock.build_from_config(layer.get_build_config())
    assign(effective_kernel(stock), kernel)
    if layer.bias is not None:
        assign(stock.bias, layer.bias)
    return stock


def _stock_class(layer):
    stock = [
        each for each in type(layer).__mro__ if each in vars(keras.layers).values()
    ]
    if not stock:
        raise ValueError(
            f"Layer '{layer.name}' can't be drawn: it is made of no layer of Keras. "
            f"Received: layer={layer}"
        )
    return stock[0]
