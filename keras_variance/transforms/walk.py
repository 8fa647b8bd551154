"""The one place that walks a model: as it is called, or as another is built of it.

A Functional model is a list of calls of operations. `walk` makes these calls through
a function, with any kind of value in the place of tensors. `partial` computes what is
known without noise, and keeps the rest as a `Program`: it can be run many times, with
samples or with moments. A layer that is made of others is `opened`: Keras traces its
call, which is then a Functional model too.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from keras_variance import _keras, checks
from keras_variance._keras import is_functional
from keras_variance.layers import layer_paths, variance_layers
from keras_variance.layers.weights import RandomWeights


def walk(model, inputs, call, **context):
    """What a model returns when each operation is called through `call`.

    Nested models are walked too.

    Args:
        model: A built Sequential or Functional model.
        inputs: Values of any kind, in the structure of the model's inputs.
        call: Function of (node, args, kwargs) that returns a value for each output of
            the call `node.operation(*args, **kwargs)`, in its structure or flat.
        **context: Arguments of the model's call that it passes on to operations that
            take them, such as `training`.
    """
    model = functional(model)
    values = dict(zip(map(id, model.inputs), flat(model, inputs), strict=True))
    for node in _keras.nodes(model):
        args, kwargs = node.arguments.fill_in(values)
        kwargs = {**kwargs, **_keras.accepted(node.operation, context)}
        if is_functional(node.operation):
            outputs = _walk_nested(node.operation, call, *args, **kwargs)
        else:
            outputs = call(node, args, kwargs)
        values.update(zip(map(id, node.outputs), tree.flatten(outputs), strict=True))
    return tree.pack_sequence_as(model.output, [values[id(x)] for x in model.outputs])


def _walk_nested(model, call, inputs, training=None, mask=None, **context):
    graph = functional(model)
    inputs = flat(graph, inputs)
    if any(each is not None for each in tree.flatten(mask)):
        masks = zip(inputs, tree.flatten(mask), graph.inputs, strict=True)
        inputs = [
            x if each is None else call(Attach([spec]), (x, each), {})
            for x, each, spec in masks
        ]
        inputs = tree.flatten(inputs)
    inputs = tree.pack_sequence_as(graph.input, inputs)
    return walk(graph, inputs, call, training=training, **context)


class Attach(NamedTuple):
    """In the place of a node: the mask that a nested model was called with."""

    outputs: list
    operation: Callable = _keras.set_mask


def flat(model, inputs):
    """Inputs in the order of the model's: a dict may stand for a list, by names."""
    if isinstance(inputs, dict) and not isinstance(model.input, dict):
        return [inputs[x.name] for x in model.inputs]
    return tree.flatten(inputs)


def operations(model, opens=lambda operation: False):
    """The operations of a model and of the models nested in it.

    Args:
        opens: Function of an operation that is true where those inside of it are
            wanted, if it can be opened.
    """
    for node in _keras.nodes(functional(model)):
        graph = node.operation
        if not is_functional(graph) and opens(graph):
            graph = opened(graph, *_symbolic(node))
        if is_functional(graph):
            yield from operations(graph, opens)
        else:
            yield node.operation


def opened(layer, args, kwargs, training=None):
    """The call of a layer as a graph: a Functional model, or None if Keras cannot trace
    it, it may do more (read masks, cast, draw, assign, add a loss), or a layer in it is
    hidden, as in a loop.

    Args:
        layer: A built layer or model.
        args, kwargs: Of its call. The symbolic tensors among them, each once, are the
            model's inputs, for any number of examples.
        training: As for a call.
    """
    specs = {id(x): x for x in _of_kind(keras.KerasTensor, (args, kwargs))}
    dtypes = {keras.backend.standardize_dtype(x.dtype) for x in specs.values()}
    floats = {x for x in dtypes if "float" in x} | {layer.compute_dtype}
    masked = any(_keras.get_mask(x) is not None for x in specs.values())
    casts = floats != {layer.variable_dtype}
    if masked or casts or layer.activity_regularizer is not None:
        return None
    inputs = {
        key: keras.Input(batch_shape=(None, *x.shape[1:]), dtype=x.dtype)
        for key, x in specs.items()
    }
    args, kwargs = tree.map_structure(lambda x: inputs.get(id(x), x), (args, kwargs))
    kwargs = {k: v for k, v in kwargs.items() if k != "training"}
    if "training" in inspect.signature(layer.call).parameters:
        kwargs["training"] = training
    graph = _keras.traced(layer, [*inputs.values()], args, kwargs)
    if graph is None:
        return None
    calls = (each.operation for each in _keras.nodes(graph))
    layers = (each for each in calls if isinstance(each, keras.Layer))
    seen = {x for each in layers for x in layer_paths(each).values()}
    unseen = {*layer_paths(layer).values()} - seen - {layer}
    hidden = [each for each in unseen if each.variables]  # weights, or seeds of noise
    return None if hidden else graph


@dataclasses.dataclass(eq=False)
class Known:
    """A value of a model's graph that is known without noise: a tensor."""

    tensor: Any


@dataclasses.dataclass(eq=False)
class Unknown:
    """A value of a model's graph that noise decides.

    Attributes:
        spec: The symbolic tensor of the source model.
    """

    spec: keras.KerasTensor


@dataclasses.dataclass(eq=False)
class Step:
    """A call of a `Program`.

    Attributes:
        operation: A layer or an operator.
        args, kwargs: Of its call: `Known`s and `Unknown`s for values of the graph.
        outputs: An `Unknown` for each output.
        is_source: Whether it has noise of its own, and not only its inputs'.
        within: The opened layer that makes the call, if it is not the model itself.
    """

    operation: Any
    args: tuple
    kwargs: dict
    outputs: list[Unknown]
    is_source: bool
    within: keras.Layer | None = None

    @property
    def unknowns(self):
        return _of_kind(Unknown, (self.args, self.kwargs))


@dataclasses.dataclass
class Program:
    """What is left of a model's call when all that is known has been computed.

    Attributes:
        steps: Calls, in an order in which they can be made.
        outputs: In the structure of the model's: `Known`s and `Unknown`s.
    """

    steps: list[Step]
    outputs: Any

    def run(self, call: Callable):
        """The outputs, flat, with each step called through `call(step, args, kwargs)`.

        Its arguments are `Known`s, and what it returned for unknown ones.
        """
        values: dict[Unknown, Any] = {}

        def value(x):
            return values[x] if isinstance(x, Unknown) else x

        for step in self.steps:
            args, kwargs = tree.map_structure(value, (step.args, step.kwargs))
            outputs = tree.flatten(call(step, args, kwargs))
            values.update(zip(step.outputs, outputs, strict=True))
        return [value(x) for x in tree.flatten(self.outputs)]

    def ends(self):
        """The sources from which no noise reaches another source."""
        leading, ends = set(), []
        for step in reversed(self.steps):
            leads = not leading.isdisjoint(step.outputs)
            if step.is_source and not leads:
                ends.append(step)
            if step.is_source or leads:
                leading.update(step.unknowns)
        return ends


def _of_kind(kind, values):
    return [x for x in tree.flatten(values) if isinstance(x, kind)]


def tensors(values):
    """A structure with the tensors of `Known`s in it."""
    return tree.map_structure(lambda x: x.tensor if isinstance(x, Known) else x, values)


def partial(model, inputs, is_source, opens, training=None) -> Program:
    """Call what is known of a model without noise.

    Args:
        model: A Keras model. Of one that is not Functional, and cannot be opened,
            nothing is known.
        inputs: Tensors, in the structure of the model's inputs.
        is_source: Function of (operation, kwargs) that is true where a call has noise
            of its own.
        opens: Function of an operation that is true where the calls inside of it are
            wanted in its place.
        training: As for a call.
    """
    steps = []
    inputs = tree.map_structure(Known, inputs)

    def call(node, args, kwargs, training=training, within=None):
        operation = node.operation
        source = is_source(operation, kwargs)
        known = not source and not _of_kind(Unknown, (args, kwargs))
        if not known and opens(operation):
            training = kwargs.get("training", training)
            graph = opened(operation, *_symbolic(node), training=training)
            if graph is not None:
                values = _values(node, args, kwargs)
                return walk_inside(operation, graph, values, training)
        args, kwargs = _first_by_position(operation, args, kwargs)
        if known:
            args, kwargs = tensors((args, kwargs))
            return tree.map_structure(Known, operation(*args, **kwargs))
        outputs = [Unknown(x) for x in node.outputs]
        steps.append(Step(operation, args, kwargs, outputs, source, within))
        return outputs

    def walk_inside(layer, graph, values, training):
        def call_inside(node, args, kwargs):
            if kwargs.get("training") is None:  # else the layer says it itself
                context = _keras.accepted(node.operation, {"training": training})
                kwargs = {**kwargs, **context}
            return call(node, args, kwargs, training, layer)

        return walk(graph, values, call_inside)

    if is_functional(model):
        return Program(steps, walk(model, inputs, call, training=training))
    specs = tree.map_structure(lambda x: _spec(x.tensor), inputs)
    masked = any(_keras.get_mask(x.tensor) is not None for x in tree.flatten(inputs))
    graph = None if masked else opened(model, (specs,), {}, training=training)
    if graph is not None:
        outputs = walk_inside(model, graph, tree.flatten(inputs), training)
        return Program(steps, outputs)
    outputs = tree.map_structure(Unknown, _keras.output_spec(model, specs))
    options = {} if training is None else {"training": training}
    step = Step(model, (inputs,), options, tree.flatten(outputs), True)
    return Program([step], outputs)


def _symbolic(node):
    """The arguments of a call, with symbolic tensors."""
    return node.arguments.args, node.arguments.kwargs


def _values(node, args, kwargs):
    """What a call has for its symbolic arguments, each once."""
    given = args, {name: kwargs[name] for name in node.arguments.kwargs}
    pairs = zip(tree.flatten(_symbolic(node)), tree.flatten(given), strict=True)
    found = {id(x): value for x, value in pairs if isinstance(x, keras.KerasTensor)}
    return [*found.values()]


def _first_by_position(operation, args, kwargs):
    """Arguments of a layer's call, the first one, as `inputs`, not by its name."""
    if args or not isinstance(operation, keras.Layer):
        return args, kwargs
    name = next(iter(inspect.signature(operation.call).parameters), None)
    if name not in kwargs:
        return args, kwargs
    return (kwargs[name],), {k: v for k, v in kwargs.items() if k != name}


def _spec(x):
    return keras.KerasTensor(x.shape, keras.backend.standardize_dtype(x.dtype))


def output_mask(layer, inputs):
    """The mask that `Layer.__call__` puts on a layer's outputs, or None."""
    if not layer.supports_masking:
        return None
    return layer.compute_mask(inputs, _keras.get_mask(inputs))


def finish_call(layer, outputs, mask):
    """Outputs of a layer with the mask and the activity loss of `Layer.__call__`, for
    a call that was not made through it."""
    flat = tree.flatten(outputs)
    for x, each in zip(flat, tree.flatten(mask), strict=False):
        _keras.set_mask(x, each)
    if layer.activity_regularizer is not None:
        for x in flat:
            rows = ops.cast(ops.shape(x)[0], "float32")
            loss = ops.cast(layer.activity_regularizer(x), "float32")
            layer.add_loss(ops.divide_no_nan(loss, rows))
    return outputs


class Interpreter(keras.Model):
    """A model that is walked with another kind of value: the base of the transforms.

    Args:
        model: The source. It is shared: weights, losses, and all.
    """

    def __init__(self, model, **kwargs):
        super().__init__(**{"name": model.name, "autocast": False, **kwargs})
        if is_functional(model):
            functional(model)  # is built
            self.built = True
        self.model = model

    def as_model(self):
        """A Functional model of this one, with the inputs and names of the source; of
        a subclassed source, whose inputs are not known, this model itself."""
        if not is_functional(self.model):
            return self
        source = functional(self.model)
        inputs = tree.map_structure(new_input, source.input)
        model = keras.Model(inputs, self(inputs), name=self.name)
        if len(model.outputs) == len(source.outputs):
            model.output_names = list(source.output_names)
        return model

    def check(self):
        """Raise the errors of `call` as they are: Keras rewrites those of a layer. Of a
        subclassed source the inputs are not known."""
        if not is_functional(self.model):
            return
        _keras.trace(self.call, functional(self.model).input)

    def standardized(self, inputs, mask=None):
        """Inputs as the source's call would have them, with their masks."""
        if not is_functional(self.model):
            return inputs
        graph = functional(self.model)
        inputs = tree.pack_sequence_as(graph.input, flat(graph, inputs))
        inputs = _keras.standardized(graph, inputs)
        for x, each in zip(inputs, tree.flatten(mask), strict=False):
            _keras.set_mask(x, each)
        return tree.pack_sequence_as(graph.input, inputs)

    def compute_output_spec(self, inputs, training=None, mask=None):
        specs = self.model.compute_output_spec(inputs)
        return tree.map_structure(self.output_spec, specs)

    def output_spec(self, spec):
        """The symbolic output in the place of one of the source."""
        return keras.KerasTensor(spec.shape, spec.dtype)

    def compute_mask(self, inputs, previous_mask):
        return None  # `call` puts masks on its outputs

    def build(self, input_shape=None):
        self.built = True

    def get_config(self):
        return {"name": self.name, "model": serialized(self.model)}

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})


def serialized(model):
    """The configuration of a model, for that of another one, which has an optimizer
    and a loss of its own: those of this one need not be known where it is loaded."""
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    return config


def functional(model):
    """The graph of a Sequential or Functional model: a Functional one.

    Raises:
        ValueError: If the model is neither, or not built.
    """
    check_functional(model)
    graph = _keras.graph(model)
    checks.require(graph is not None, "model", checks.BUILT, model)
    return graph


def check_functional(model):
    """Raise ValueError if a model cannot be walked."""
    expected = (
        "a Sequential or a Functional model: the layers of a subclassed one cannot be "
        "inspected"
    )
    checks.require(is_functional(model), "model", expected, model)


def hides(operation):
    """Whether it is a layer that has variance layers inside, and is none."""
    is_layer = isinstance(operation, keras.Layer)
    is_one = isinstance(operation, RandomWeights)
    return is_layer and not is_one and bool(variance_layers(operation))


def check_visible(model, opens=lambda operation: False):
    """Raise ValueError if layers that are no models have variance layers inside, but
    for those that are opened."""
    for each in operations(model, opens):
        refuse_hidden(each)


def refuse_hidden(operation):
    """Raise ValueError if an operation has variance layers inside, and is none."""
    if hides(operation):
        raise ValueError(
            f"Layer '{operation.name}' has variance layers inside that cannot be "
            "inspected: use Sequential and Functional models. "
            f"Received: layer={operation}"
        )


def new_input(tensor, like=None):
    """An input in the place of another, with the shape of `like` if it is given."""
    return keras.Input(
        batch_shape=(tensor if like is None else like).shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        **_keras.input_config(tensor),
    )
