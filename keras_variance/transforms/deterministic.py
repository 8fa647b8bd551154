"""`from_deterministic`: variance layers for the stock layers of a model."""

import math

import numpy as np
from keras import ops

from keras_variance.distributions import posteriors
from keras_variance.layers import VARIANCE_LAYERS
from keras_variance.transforms.rewrite import functional, is_functional, rewrite

# log α where the posterior is given by name: predictions stay close to the source's.
INITIAL_LOG_ALPHA = -10.0


def from_deterministic(model, posterior="layer_alpha", layers=None, **kwargs):
    """Stock layers turned into variance layers, their weights kept as means.

    The start of variational training from a trained model. New layers have copies
    of the weights; the other layers are shared with the source.

    Args:
        model: A built Sequential or Functional model.
        posterior: A posterior that has means. Given by name, it starts at
            log α = -10, so that predictions are close to the source's.
        layers: Layers, or their names, to turn. Defaults to every `Dense`,
            `Conv1D`, `Conv2D`, `Conv3D`, `Conv2DTranspose` and `DepthwiseConv2D`
            layer of the model and of models nested in it.
        **kwargs: Further arguments of the new layers, such as `prior` and
            `train_size`.

    Returns:
        A Functional model.

    Raises:
        ValueError: If there is no such layer, or the posterior has no means.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> stochastic = from_deterministic(model, prior="log_uniform", train_size=100)
    >>> type(stochastic.layers[-1]).__name__
    'VarianceDense'
    """
    if isinstance(posteriors.get(posterior), posteriors.ZeroMean):
        raise ValueError(
            "Argument `posterior` must have means, to keep the model's weights: "
            "any but 'zero_mean'. "
            f"Received: posterior={posterior!r}"
        )
    chosen = _choose(model, layers)
    replacements = {}

    def call(operation, *args, **kwargs_of_call):
        if operation in chosen:
            if operation not in replacements:
                replacements[operation] = _replace(operation, posterior, kwargs)
            operation = replacements[operation]
        return operation(*args, **kwargs_of_call)

    return rewrite(model, call, enter=lambda nested: chosen & set(_layers(nested)))


def _layers(model):
    """The layers of a model and of the models nested in it."""
    for layer in model.layers:
        yield layer
        if is_functional(layer):
            yield from _layers(layer)


def _choose(model, layers):
    """The set of layers to turn."""
    every = list(_layers(functional(model)))
    if layers is None:
        chosen = {layer for layer in every if type(layer) in VARIANCE_LAYERS}
    else:
        named = {layer.name: layer for layer in every}
        chosen = {named.get(layer, layer) for layer in layers}
    known = all(each in every and type(each) in VARIANCE_LAYERS for each in chosen)
    if not chosen or not known:
        names = [layer.name for layer in every if type(layer) in VARIANCE_LAYERS]
        raise ValueError(
            "Argument `layers` must be layers of the model that have a variance layer "
            f"(this model: {names}), or their names. Received: layers={layers}"
        )
    return chosen


def _replace(stock, posterior, kwargs):
    config = {**stock.get_config(), "dtype": stock.dtype_policy}
    layer = VARIANCE_LAYERS[type(stock)](**config, posterior=posterior, **kwargs)
    layer.build(stock.get_build_config()["input_shape"])
    layer.kernel.assign(stock.kernel)
    if stock.bias is not None:
        layer.bias.assign(stock.bias)
    if isinstance(posterior, str):
        start = INITIAL_LOG_ALPHA
        if isinstance(layer.posterior, posteriors.Additive):
            mean_square = float(np.mean(np.square(stock.kernel)))
            start += math.log(max(mean_square, posteriors.TINY))
        layer.phi.assign(ops.full(layer.phi.shape, start))
    return layer
