"""Layers of a model by path: names are unique only within one model."""

import keras

from keras_variance import _keras, checks
from keras_variance.layers.weights import RandomWeights


def variance_layers(model: keras.Layer) -> list[RandomWeights]:
    """The variance layers of a model or layer, nested ones too.

    Args:
        model: A Keras model or layer, built or not.

    Returns:
        A list of layers with random weights, each once, in the order in which they
        were added; empty if there is none.

    Raises:
        ValueError: If `model` is neither a model nor a layer.

    Example:

    >>> import keras_variance as kv
    >>> inner = keras.Sequential([kv.VarianceDense(3, name="hidden")])
    >>> model = keras.Sequential([inner, keras.layers.Dense(1)])
    >>> [layer.name for layer in variance_layers(model)]
    ['hidden']
    """
    return [x for x in layer_paths(model).values() if isinstance(x, RandomWeights)]


def layer_paths(model: keras.Layer) -> dict[str, keras.Layer]:
    """All layers inside of a model or layer, by path: what arguments `layers` take.

    Args:
        model: A Keras model or layer, built or not.

    Returns:
        A dict from paths, such as `"encoder/dense"`, to layers, each layer once, and
        the model itself under the empty path. Layers of one name in one place are
        told apart by a number.

    Raises:
        ValueError: If `model` is neither a model nor a layer.

    Example:

    >>> import keras_variance as kv
    >>> inner = keras.Sequential([kv.VarianceDense(3, name="hidden")], name="encoder")
    >>> model = keras.Sequential([inner, keras.layers.Dense(1, name="head")])
    >>> list(layer_paths(model))
    ['', 'encoder', 'encoder/hidden', 'head']
    """
    is_layer = isinstance(model, keras.Layer)
    checks.require(is_layer, "model", "a Keras model or layer", model)
    paths, seen = {}, set()

    def visit(layer, path):
        if id(layer) in seen:
            return
        seen.add(id(layer))
        unique, number = path, 1
        while unique in paths:
            unique, number = f"{path}#{number}", number + 1
        paths[unique] = layer
        for each in _keras.sublayers(layer):
            visit(each, f"{unique}/{each.name}" if unique else each.name)

    visit(model, "")
    return paths


def choose(layers, candidates: dict[str, keras.Layer]) -> list[keras.Layer]:
    """Some of a model's layers.

    Args:
        layers: Layers, paths, or names that only one of the candidates has; None for
            all candidates.
        candidates: Paths and layers to choose from.

    Raises:
        ValueError: If there are none, or some are not among the candidates.
    """
    known = list(candidates)
    if layers is None:
        chosen = list(candidates.values())
    else:
        layers = list(layers) if isinstance(layers, list | tuple | set) else [layers]
        chosen = [_choose_one(each, candidates) for each in layers]
    if not chosen or None in chosen:
        wrong = [x for x, found in zip(layers or [], chosen, strict=False) if not found]
        raise ValueError(
            f"Argument `layers` must be some of this model's {known}, by path, or by a "
            f"name that only one has. Received: layers={wrong or layers}"
        )
    return chosen


def _choose_one(wanted, candidates):
    """The layer, or the one with that path or name; None if there is not just one."""
    if isinstance(wanted, str):
        named = [layer for layer in candidates.values() if layer.name == wanted]
        return candidates.get(wanted, named[0] if len(named) == 1 else None)
    return next((layer for layer in candidates.values() if layer is wanted), None)


def find_variance_layers(model, layers=None, built=False) -> list[RandomWeights]:
    """The variance layers of a model, or some of them.

    Raises:
        ValueError: If the model has none, `layers` are not among them, or, if they
            have to be `built`, some are not.
    """
    paths = layer_paths(model) if isinstance(model, keras.Layer) else {}
    paths = {k: v for k, v in paths.items() if isinstance(v, RandomWeights)}
    expected = (
        "a Keras model with variance layers (see `keras_variance.transforms.replace`)"
    )
    checks.require(isinstance(model, keras.Model) and paths, "model", expected, model)
    chosen = choose(layers, paths)
    ready = not built or all(layer.built for layer in chosen)
    checks.require(ready, "model", checks.BUILT, model)
    return chosen
