"""`from_deterministic`: variance layers for the stock layers of a model."""

from keras_variance import checks
from keras_variance.distributions import posteriors
from keras_variance.layers import (
    VARIANCE_LAYERS,
    choose,
    effective_kernel,
    layer_paths,
)
from keras_variance.random import derive
from keras_variance.transforms.rebuild import assign, rebuild
from keras_variance.transforms.walk import functional, operations


def from_deterministic(model, posterior="layer_alpha", layers=None, **kwargs):
    """Stock layers turned into variance layers, their weights kept as means.

    The start of variational training from a trained model. New layers have copies
    of the weights; the other layers are shared with the source.

    Args:
        model: A built Sequential or Functional model.
        posterior: A posterior that has means, which starts where its arguments say.
            By default a weight's standard deviation starts at 8 % of it (`"additive"`:
            of the layer's root mean square), and predictions close to the source's.
        layers: Layers, their paths, as `"encoder/dense"`, or names that only one has,
            to turn. Defaults to every layer of the model, and of models nested in it,
            that has a variance layer, embeddings too.
        **kwargs: Further arguments of the new layers, such as `prior` and
            `train_size`. From a `seed` each layer gets one of its own. A prior with
            `mean="initial"` is centered at the model's weights.

    Returns:
        A model with the same nesting and names.

    Raises:
        ValueError: If there is no such layer, a layer is quantized, or the posterior
            has no means.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> stochastic = from_deterministic(model, prior="log_uniform", train_size=100)
    >>> type(stochastic.layers[-1]).__name__
    'VarianceDense'
    """
    checks.require(
        not isinstance(posteriors.get(posterior), posteriors.ZeroMean),
        "posterior",
        "one that has means, to keep the model's weights: any but 'zero_mean'",
        posterior,
    )
    functional(model)
    stock = {
        path: layer
        for path, layer in layer_paths(model).items()
        if type(layer) in VARIANCE_LAYERS and layer in [*operations(model)]
    }
    chosen = choose(layers, stock)
    seed = checks.seed(kwargs.pop("seed", None))
    seeds = {id(layer): derive(seed, k) for k, layer in enumerate(chosen)}

    def make(layer):
        if id(layer) not in seeds:
            return layer
        return _replace(layer, posterior, seed=seeds[id(layer)], **kwargs)

    return rebuild(model, make)


def _replace(stock, posterior, **kwargs):
    kernel = effective_kernel(stock)
    config = {**stock.get_config(), "dtype": stock.dtype_policy}
    for name in ("lora_rank", "lora_alpha"):
        config.pop(name, None)
    layer = VARIANCE_LAYERS[type(stock)](**config, posterior=posterior, **kwargs)
    layer.build_from_config(stock.get_build_config())
    assign(layer.kernel, kernel)
    layer.start_from_weights()
    if layer.bias is not None:
        assign(layer.bias, stock.bias)
    return layer
