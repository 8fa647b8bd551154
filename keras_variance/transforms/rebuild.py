"""Models like others, with other layers."""

import keras
from keras import ops, tree

from keras_variance import _keras
from keras_variance._keras import is_functional
from keras_variance.layers import layer_paths
from keras_variance.transforms.walk import flat, functional, new_input


def rebuild(model, make):
    """A model with `make(layer)` in the place of each layer of another.

    Nesting, names and the kind of models are kept, and shared layers shared. Frozen
    nested models stay frozen; the outer one is new, and what is frozen of it are its
    layers.

    Args:
        model: A built Sequential or Functional model.
        make: Function of a layer that is no such model, called once for each.
    """
    made = {}

    def remake(layer, inputs=None):
        if id(layer) not in made:
            nested = is_functional(layer)
            made[id(layer)] = build(layer, inputs) if nested else make(layer)
            if nested and not layer.trainable:
                _freeze(made[id(layer)])
        return made[id(layer)]

    def build(model, like=None):
        graph = functional(model)
        like = graph.inputs if like is None else flat(graph, like)
        inputs = [new_input(*each) for each in zip(graph.inputs, like, strict=True)]
        values = dict(zip(map(id, graph.inputs), inputs, strict=True))
        inputs = tree.pack_sequence_as(graph.input, inputs)
        if isinstance(model, keras.Sequential):
            layers, x = [], inputs
            for layer in model.layers:
                layers.append(remake(layer, x))
                x = layers[-1].compute_output_spec(x)
            return keras.Sequential([inputs, *layers], name=model.name)
        for node in _keras.nodes(model):
            args, kwargs = node.arguments.fill_in(values)
            operation = node.operation
            if isinstance(operation, keras.Layer):
                operation = remake(operation, *args[:1])
            outputs = tree.flatten(operation(*args, **kwargs))
            values.update(zip(map(id, node.outputs), outputs, strict=True))
        outputs = [values[id(x)] for x in model.outputs]
        outputs = tree.pack_sequence_as(model.output, outputs)
        return keras.Model(inputs, outputs, name=model.name)

    return build(model)


def _freeze(model):
    """Set a model's `trainable` to False, and not that of the layers in it, which other
    models may have too."""
    before = [(layer, layer.trainable) for layer in layer_paths(model).values()][1:]
    model.trainable = False
    for layer, trainable in before:
        layer.trainable = trainable


def assign(variable, value):
    """Set a variable to a copy of a value: on JAX two variables may share a buffer,
    which training either of them deletes."""
    variable.assign(ops.copy(ops.convert_to_tensor(value)))
