"""The one place that walks a model."""

import dataclasses
from typing import Any

import keras
from keras import tree

# `Functional` has no public name.
from keras.src.models.functional import Functional

from keras_variance.layers import VarianceLayer, variance_layers


def rewrite(model, call, finish=lambda value: value, enter=variance_layers):
    """A Keras model made of another, with which it shares its layers.

    Each operation is called through `call`, in the order of the model. What
    flows between them is what `call` returns, which need not be a tensor: an
    object stands for it, such as a batch of samples.

    Args:
        model: A built Sequential or Functional model.
        call: Function of (operation, *args, **kwargs), the arguments those of
            the operation's call.
        finish: Function that makes an output tensor of what `call` returned.
        enter: As for `walk`.

    Returns:
        A Functional model with the inputs of `model`.

    Raises:
        ValueError: If the model is neither, or not built.
    """
    inputs = new_inputs(model)
    outputs = tree.map_structure(finish, walk(model, inputs, call, enter))
    return keras.Model(inputs, outputs, name=model.name)


def walk(model, inputs, call, enter=variance_layers):
    """What a model returns when each operation is called through `call`.

    Args:
        model: A built Sequential or Functional model.
        inputs: Of any kind that `call` knows, in the structure of the model's.
        call: Function of (operation, *args, **kwargs), the arguments those of
            the operation's call.
        enter: Function of a nested model that is true if that is to be walked too,
            by default where it has variance layers; else `call` gets it whole.
    """

    def call_or_walk(operation, *args, **kwargs):
        if is_functional(operation) and enter(operation):
            return walk(operation, args[0], call, enter)
        return call(operation, *args, **kwargs)

    # What `keras.models.clone_model` is made of: that function itself takes only
    # tensors as inputs, and so can't walk a nested model with other values.
    return functional(model)._run_through_graph(inputs, call_fn=call_or_walk)


def replace_layers(model, make):
    """The model with `make(layer)` in the place of each variance layer."""
    replacements = {}

    def call(operation, *args, **kwargs):
        if isinstance(operation, VarianceLayer):
            if id(operation) not in replacements:
                replacements[id(operation)] = make(operation)
            operation = replacements[id(operation)]
        elif isinstance(operation, keras.Layer) and variance_layers(operation):
            raise ValueError(
                f"Layer '{operation.name}' has variance layers inside that can't be "
                "replaced: use Sequential and Functional models. "
                f"Received: layer={operation}"
            )
        return operation(*args, **kwargs)

    return rewrite(model, call)


def is_functional(model) -> bool:
    """Whether `rewrite` can walk the model."""
    return isinstance(model, Functional | keras.Sequential)


def check_functional(model):
    """Raise ValueError if `rewrite` can't walk the model."""
    if not is_functional(model):
        raise ValueError(
            "Expected a Sequential or a Functional model: the layers of a subclassed "
            f"model can't be seen. Received: model={model}"
        )


def functional(model):
    """The Functional form of a model, on the same layers."""
    check_functional(model)
    if isinstance(model, Functional):
        return model
    if not model.built:
        raise ValueError(
            "Expected a model that is built: give it a `keras.Input`, or call it on "
            f"data. Received: model={model}"
        )
    inputs, outputs = (
        x[0] if len(x) == 1 else x for x in (model.inputs, model.outputs)
    )
    return keras.Model(inputs, outputs, name=model.name)


def has_mask(tensor) -> bool:
    """Whether a symbolic tensor has a mask."""
    # Which has no public name.
    return getattr(tensor, "_keras_mask", None) is not None


def find_variance_layers(model, layers=None):
    """The variance layers of a model, or some of them, given as such or by name.

    Raises:
        ValueError: If the model has none, or `layers` are not among them.
    """
    every = variance_layers(model) if isinstance(model, keras.Model) else []
    if not every:
        raise ValueError(
            "Expected a Keras model with variance layers (see "
            f"`keras_variance.transforms.from_deterministic`). Received: model={model}"
        )
    if layers is None:
        return every
    named = {layer.name: layer for layer in every}
    chosen = [named.get(x, x) if isinstance(x, str) else x for x in layers]
    if not chosen or not all(layer in every for layer in chosen):
        raise ValueError(
            "Argument `layers` must be variance layers of the model "
            f"({list(named)}), or their names. Received: layers={layers}"
        )
    return chosen


def new_inputs(model):
    """Inputs like those of the model, in the same structure."""
    return tree.map_structure(_new_input, functional(model).input)


def _new_input(tensor):
    return keras.Input(
        batch_shape=tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        name=tensor.name,
    )


def split_prefix(model):
    """What comes before the first variance layers, and the rest.

    Args:
        model: A built model with variance layers.

    Returns:
        Functions `prefix` and `suffix`, the second a model: `suffix(prefix(x))` is
        `model(x)`, and `prefix` is deterministic. Masks get lost between models:
        where one would have to cross, `prefix` is the identity.
    """
    boundary = {}

    def cross(value):
        if isinstance(value, keras.KerasTensor):
            boundary[id(value)] = value
        return value.tensor if isinstance(value, _Behind) else value

    def call(operation, *args, **kwargs):
        behind = any(isinstance(each, _Behind) for each in tree.flatten((args, kwargs)))
        if isinstance(operation, keras.Layer) and variance_layers(operation):
            behind = True
        if not behind:
            return operation(*args, **kwargs)
        args, kwargs = tree.map_structure(cross, (args, kwargs))
        return tree.map_structure(_Behind, operation(*args, **kwargs))

    def finish(value):
        # A deterministic output: Keras tells it from the boundary by an operation
        is_boundary = isinstance(value, keras.KerasTensor)
        return keras.layers.Identity()(cross(value)) if is_boundary else cross(value)

    whole = rewrite(model, call, finish)
    if any(has_mask(x) for x in boundary.values()):
        return lambda inputs: inputs, model
    prefix = keras.Model(whole.input, list(boundary.values()), name="prefix")
    return prefix, keras.Model(list(boundary.values()), whole.output, name=model.name)


@dataclasses.dataclass
class _Behind:
    """What flows behind the first variance layer."""

    tensor: Any


class View(keras.Layer):
    """A variance layer, called in another way: the base of a transform's layers.

    Args:
        layer: The `VarianceLayer`, shared with the source.
    """

    def __init__(self, layer, **kwargs):
        kwargs = {"name": layer.name, "dtype": layer.dtype_policy, **kwargs}
        super().__init__(**kwargs)
        self.layer = layer
        self.supports_masking = layer.supports_masking

    def build(self, input_shape):
        if not self.layer.built:
            self.layer.build(input_shape)

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return super().from_config({**config, "layer": layer})
