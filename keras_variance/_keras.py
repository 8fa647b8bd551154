"""Every name of Keras that is not public and that this package uses.

Each stands here with the reason; `tests/test_keras.py` has a test for each, which
fails with a Keras that has changed it.
"""

import contextlib
import copy

import keras
import numpy as np
from keras import tree
from keras.src import backend

# Operators of tensors in Functional models, such as `x + y` and `ops.relu(x)`, for
# the rules of moments and of `shrink`. They have no public names.
from keras.src.models.functional import Functional
from keras.src.ops.math import Erf
from keras.src.ops.nn import (
    Celu,
    DotProductAttention,
    Elu,
    Gelu,
    HardSigmoid,
    HardSilu,
    HardTanh,
    LogSigmoid,
    Relu,
    Relu6,
    Selu,
    Sigmoid,
    Silu,
    Softmax,
    Softplus,
    Softsign,
    Squareplus,
)
from keras.src.ops.numpy import (
    Absolute,
    Add,
    Arctan,
    Concatenate,
    Cos,
    Divide,
    Einsum,
    Exp,
    ExpandDims,
    GetItem,
    Matmul,
    Maximum,
    Mean,
    Minimum,
    Multiply,
    Negative,
    Reshape,
    Sin,
    Square,
    Squeeze,
    Subtract,
    Sum,
    Tanh,
    Transpose,
    TrueDivide,
)
from keras.src.saving.serialization_lib import SafeModeScope

__all__ = [
    "Add",
    "Concatenate",
    "Divide",
    "DotProductAttention",
    "Einsum",
    "Exp",
    "ExpandDims",
    "Functional",
    "GetItem",
    "Matmul",
    "Maximum",
    "Mean",
    "Minimum",
    "Multiply",
    "Negative",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Squeeze",
    "Subtract",
    "Sum",
    "Tanh",
    "Transpose",
    "TrueDivide",
]

# Operators whose output's entries depend on one entry of their one input each
ELEMENTWISE = (
    Absolute,
    Arctan,
    Celu,
    Cos,
    Elu,
    Erf,
    Gelu,
    HardSigmoid,
    HardSilu,
    HardTanh,
    LogSigmoid,
    Relu6,
    Selu,
    Silu,
    Sin,
    Softplus,
    Softsign,
    Square,
    Squareplus,
)


class OwnLosses:
    """A layer whose `own_loss()` is among its losses: before a stock layer in the MRO.

    Keras asks each layer for its losses once, when a model's `losses` are read,
    outside of the loops and of the rematerialization in which the layer may have
    been called. `add_loss` would run inside of these. A regularizer of a variable is
    asked at the right time too, but not if that variable is frozen.
    """

    def own_loss(self):
        """A scalar tensor, or None."""
        return None

    def _get_own_losses(self):
        loss = self.own_loss()
        return super()._get_own_losses() + ([] if loss is None else [loss])


# A Keras without the hooks would train without the loss, in silence: fail here.
_HOOKS = keras.Layer._get_own_losses, keras.Layer._maybe_build


class BuildsInner:
    """A wrapper whose layer is built as Keras builds it when it is called: by its own
    `build`, or by a trace of its call if it has none, which `build` of the wrapper
    cannot do."""

    def _maybe_build(self, call_spec):
        if self.built:
            return
        layer, spec = self.layer, copy.copy(call_spec)
        spec.arguments_dict = tree.map_structure(  # as its `__call__` would
            lambda x: layer.dtype_policy.convert_input(
                x, layer.autocast, layer.input_dtype
            ),
            spec.arguments_dict,
        )
        layer._maybe_build(spec)
        super()._maybe_build(call_spec)


class Substitution(keras.StatelessScope):
    """Some variables have other values in here; all else is as outside.

    `keras.StatelessScope` alone hides the values that variables have in a scope
    around it, as in `fit` on JAX, and keeps updates and losses.

    Args:
        variables, values: Lists of variables and of tensors.

    Attributes:
        read: Identities of the variables that were read.
        own_losses: What `add_loss` added in here, if no scope around this one has it.
    """

    def __init__(self, variables, values):
        pairs = list(zip(variables, values, strict=True))
        super().__init__(pairs, collect_losses=True)
        self.substituted = {*self.state_mapping}
        self.read = set()

    def __enter__(self):
        super().__enter__()
        self.own_losses = self.losses
        if self.original_scope is not None:
            self.own_losses = ()
            self.losses = self.original_scope.losses
            self.collect_losses = self.original_scope.collect_losses
        return self

    def get_current_value(self, variable):
        self.read.add(id(variable))
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        return value

    def add_update(self, update):
        variable, value = update
        if id(variable) in self.substituted:
            raise ValueError(
                f"The weight '{variable.path}' is drawn, and its layer assigns to it "
                f"in a call: it cannot be random. Received: value={value}"
            )
        if self.original_scope is not None:
            self.original_scope.add_update(update)
        else:
            variable._direct_assign(value)


class Pure(Substitution):
    """In here a variable cannot be assigned, nor a loss added."""

    def __init__(self):
        super().__init__([], [])

    def add_update(self, update):
        raise ValueError(f"'{update[0].path}' is assigned to")

    def add_loss(self, loss):
        raise ValueError("A loss is added")


def made_trainable(layer):
    """A layer's own variables that were made to be trained, whether they are frozen
    now or not: what is public depends on `trainable`, which a file changes."""
    return list(layer._trainable_variables)


def is_functional(model) -> bool:
    """Whether a model is a graph of operations, and is called as one.

    `Functional` has no public name. A subclass with a `call` of its own does
    something else than its graph says.
    """
    kinds = (Functional, keras.Sequential)
    return any(isinstance(model, k) and type(model).call is k.call for k in kinds)


def graph(model):
    """The Functional form of a Functional or Sequential model, which keeps its own
    under a private name; None if it is not built."""
    return model._functional if isinstance(model, keras.Sequential) else model


def nodes(model):
    """The calls of a Functional model's operations, in the order in which Keras runs
    them; `keras.models.clone_model` walks only tensors through a nested model."""
    by_depth = model._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        for node in by_depth[depth]:
            if node.operation and not node.is_input:
                yield node


def node_of(tensor):
    """The call that made a symbolic tensor, or None: of an input."""
    history = tensor._keras_history
    node = history.operation._inbound_nodes[history.node_index]
    return None if node.is_input else node


def input_config(tensor):
    """The name of the layer that a symbolic input comes from, and whether the input is
    optional."""
    layer = tensor._keras_history.operation
    return {"name": layer.name, "optional": layer.optional}


def clone(layer, **config):
    """A new layer like another, of which Keras trusts the configuration: it refuses
    Python functions from files, and knows no other source.

    Args:
        **config: What is another's.
    """
    with SafeModeScope(safe_mode=False):
        return type(layer).from_config({**layer.get_config(), **config})


def accepted(operation, context):
    """Those of the arguments `context` that a model passes on to an operation's call,
    such as `training`: as `Functional.call` selects them."""
    names = getattr(operation, "_call_context_args", ())
    return {k: v for k, v in context.items() if k in names and v is not None}


def standardized(model, inputs):
    """A flat list of the inputs of a Functional model, as its `call` has them: in
    order, of its dtypes and ranks."""
    return model._standardize_inputs(inputs)


def get_mask(x):
    """The mask that Keras has put on a tensor, or None: masks are attributes."""
    return tree.map_structure(backend.get_keras_mask, x)


def set_mask(x, mask=None):
    """Put a mask on a tensor."""
    if mask is not None:
        backend.set_keras_mask(x, mask)
    return x


def sublayers(layer):
    """The layers directly inside of a layer. Keras's public walk is for models, and
    does not keep the order of what is inside of layers that are no models."""
    return layer._flatten_layers(include_self=False, recursive=False)


def seed_generators(layer):
    """The generators of a layer and of those inside of it; no public list exists."""
    found = {}
    for each in layer._flatten_layers():
        for generator in each._seed_generators:
            found[id(generator)] = generator
    return list(found.values())


@contextlib.contextmanager
def obeyed(generators):
    """Dropout draws from these generators in here, as other random layers do: on
    PyTorch Keras's dropout ignores a generator that was given no seed."""
    unseeded = [each for each in generators if each._initial_seed is None]
    for each in unseeded:
        each._initial_seed = 0
    try:
        yield
    finally:
        for each in unseeded:
            each._initial_seed = None


def trace(function, *inputs):
    """Run a function on symbolic inputs without a trace left in a graph, so that the
    errors of a `call` are raised as they are: `Layer.__call__` rewrites them, and on
    PyTorch a second attempt hides those of the first."""
    errors = []

    def call(*inputs):
        try:
            return function(*inputs)
        except ValueError as error:
            errors.append(error)
            raise

    try:
        return backend.compute_output_spec(call, *inputs)
    except Exception:
        if errors:
            raise errors[0] from None
        raise


def traced(layer, inputs, args, kwargs):
    """The graph of `layer.call(*args, **kwargs)`, which has symbolic inputs: a
    Functional model; None if the call does more than that, or fails.

    The layers inside do not keep the nodes: those of a layer are its public inputs
    and outputs.
    """
    every = layer._flatten_layers()
    lists = [x for each in every for x in (each._inbound_nodes, each._outbound_nodes)]
    counts = [len(each) for each in lists]
    try:
        with _values_kept(layer), Pure():
            graph = keras.Model(inputs, layer.call(*args, **kwargs))
            specs = [keras.KerasTensor(x.shape, x.dtype) for x in inputs]
            trace(graph.call, specs)  # fails where a shape is None, as it would later
        return graph
    except Exception:  # it is the layer's own code
        return None
    finally:
        for each, count in zip(lists, counts, strict=True):
            del each[count:]


def output_spec(model, inputs):
    """The symbolic outputs of a subclassed model."""
    with _values_kept(model):
        return model.compute_output_spec(inputs)


@contextlib.contextmanager
def _values_kept(layer):
    """A layer's variables keep the values of now in here: on JAX `fit` and `predict`
    give them by a scope, which is hidden by those that Keras opens for its traces."""
    variables = layer.variables if backend.backend() == "jax" else ()
    values = [(each, each.value, each._value) for each in variables]
    try:
        for each, now, _ in values:
            each._value = now
        yield
    finally:
        for each, _, before in values:
            each._value = before


def value_of(variable):
    """A copy of a variable's value. On JAX, which deletes the arrays of variables that
    it trains, NumPy's: `jax.jit` would make a tracer of it, which leaks."""
    value = variable.value
    if backend.backend() == "jax":
        import jax

        if not isinstance(value, jax.core.Tracer):
            return np.array(value)
    return keras.ops.copy(value)


def set_value(variable, value):
    """Set a variable to what `value_of` returned, or what NumPy made of it."""
    scope = contextlib.nullcontext()
    if backend.backend() == "jax" and isinstance(value, np.ndarray):
        import jax

        scope = jax.ensure_compile_time_eval()
    with scope:
        variable.assign(value)


def outlasting():
    """A context in which PyTorch's inference mode is off, of whose tensors none may be
    changed after it: for variables that live longer."""
    if backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.inference_mode(False)


def unlock(layer):
    """Let a built layer take more weights; Keras does the same for LoRA weights."""
    layer._tracker.unlock()


def lock(layer):
    layer._tracker.lock()


def constant(variable):
    """A variable, for use in a constraint; on JAX its value, as a train step there
    can't read a variable that it is not given."""
    if keras.backend.backend() == "jax":
        return keras.ops.convert_to_numpy(variable)
    return variable
