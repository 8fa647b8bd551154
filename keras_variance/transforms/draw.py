"""`draw`: one sample of the weights, as a stock Keras model."""

import inspect

import keras

from keras_variance.layers import VarianceLayer
from keras_variance.random import SeedGenerator, Stream
from keras_variance.transforms.rewrite import find_variance_layers, replace_layers

# What `VarianceLayer` adds to the configuration of a stock layer.
ADDED = [
    parameter.name
    for parameter in inspect.signature(VarianceLayer.__init__).parameters.values()
    if parameter.kind is parameter.KEYWORD_ONLY
]


def draw(model, seed: int | None = None, layers=None):
    """One sample of the weights as a model of stock Keras layers.

    The result needs nothing of this package, and is as fast as any Keras model.
    Drawn layers have weights of their own; the others are shared with the source.

    Args:
        model: A built Sequential or Functional model with variance layers.
        seed: Integer that makes the draw repeatable.
        layers: Variance layers of the model, or their names, to draw; others stay
            stochastic. Defaults to all.

    Returns:
        A Functional model, deterministic if all layers are drawn.

    Raises:
        ValueError: If the model has no variance layer, or one that can't be drawn,
            or `layers` are not the model's.

    Example:

    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential([keras.Input((4,)), VarianceDense(3)])
    >>> type(draw(model, seed=0).layers[-1]).__name__
    'Dense'
    """
    chosen = find_variance_layers(model, layers)
    generator = SeedGenerator(seed)

    def make(layer):
        return _draw_layer(layer, generator) if layer in chosen else layer

    return replace_layers(model, make)


def _draw_layer(layer, generator):
    random = layer.random_linear()
    kernel = random.sample_kernel(Stream(generator.next()))
    kernel = kernel if random.mean is None else random.mean + kernel
    config = {k: v for k, v in layer.get_config().items() if k not in ADDED}
    stock = _stock_class(layer).from_config(config)
    stock.build(layer.get_build_config()["input_shape"])
    stock.kernel.assign(kernel)
    if layer.bias is not None:
        stock.bias.assign(layer.bias)
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
