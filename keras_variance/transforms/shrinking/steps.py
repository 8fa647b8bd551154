"""What `shrink` does with each call of a layer: a step of its plan.

A step finds which channels of its results are constant, forwards through the model,
then which channels of its sources the kept ones need, backwards, and makes the layer
that is left.
"""

import numbers
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_variance import checks

STEPS: dict[type, type] = {}


class Signal:
    """A tensor of the model, channel by channel (its last axis).

    Attributes:
        tensor: Symbolic.
        constant: Array, (channels,): the value of a channel that has one, the same
            for all rows and positions, else NaN.
        keep: Boolean array, (channels,): whether the smaller model has it.
    """

    def __init__(self, tensor):
        self.tensor = tensor
        self.channels = tensor.shape[-1] or 1 if len(tensor.shape) > 1 else 1
        self.constant = np.full(self.channels, np.nan)
        self.keep = np.zeros(self.channels, bool)


class ShrinkStep:
    """A call that is left as it is: the base of the others.

    Attributes:
        operation: A layer, or an operator.
        arguments: Its args and kwargs, with signals in the place of tensors.
        sources, results: The signals that go in and come out.
        reason: Why it is left whole; empty for other steps.
    """

    def __init__(
        self,
        operation: keras.Operation,
        arguments: Any,
        results: list,
        reason: str = "",
    ):
        self.operation = operation
        self.arguments = arguments
        self.sources = _signals(arguments)
        self.results = results
        self.reason = reason

    @classmethod
    def obstacle(cls, operation, sources, results) -> str:
        """Why the call must be left whole; empty if it need not."""
        return ""

    def find_constants(self):
        """Set `constant` of the results."""

    def demand(self):
        """Set `keep` of the sources where the results need it, and of the results."""
        for signal in (*self.sources, *self.results):
            signal.keep[:] = True

    def make(self):
        """The operation of the smaller model."""
        return self.operation


class ChannelwiseStep(ShrinkStep):
    """Each channel of the result is a function of that channel of the sources.

    A channel is an index of the last axis. The layer is left as it is: of one with
    weights for each channel a subclass makes another.
    """

    @classmethod
    def obstacle(cls, operation, sources, results):
        alike = len({x.channels for x in (*sources, *results)}) == 1
        return "" if alike and is_elementwise(operation) else UNKNOWN

    def find_constants(self):
        (result,) = self.results
        known = ~np.isnan([x.constant for x in self.sources]).any(axis=0)
        shapes = [x.tensor.shape[1:] for x in self.sources]
        if not known.any() or any(None in shape for shape in shapes):
            return
        args, kwargs = tree.map_structure(_one_row, self.arguments)
        values = ops.convert_to_numpy(self.operation(*args, **kwargs))
        values = values.reshape(-1, result.channels)
        known &= (values == values[0]).all(axis=0)
        result.constant[known] = values[0, known]

    def demand(self):
        keep = np.any([x.keep for x in (*self.sources, *self.results)], axis=0)
        for signal in (*self.sources, *self.results):
            signal.keep[:] = keep


UNKNOWN = "not known to keep channels apart"


def shrink_rule(*operations) -> Callable:
    """Decorator that makes a class of steps the rule of layers, for `shrink`.

    A layer without one is left whole, and all that it reads and returns.

    Args:
        *operations: Layer classes. A subclass of them has no rule.

    Raises:
        ValueError: If they are none, or the rule is no class of steps.

    Example:

    >>> class Double(keras.layers.Layer):
    ...     def call(self, inputs):
    ...         return 2 * inputs
    >>> rule = shrink_rule(Double)(ChannelwiseStep)
    """
    known = operations and all(isinstance(each, type) for each in operations)
    checks.require(known, "operations", "layer classes", operations)

    def register(rule):
        known = isinstance(rule, type) and issubclass(rule, ShrinkStep)
        checks.require(known, "rule", "a class of `ShrinkStep`s", rule)
        STEPS.update(dict.fromkeys(operations, rule))
        return rule

    return register


# In all others of Keras an entry of the output depends on that of the input alone
MIXING = ("glu", "log_softmax", "softmax", "sparsemax")
ELEMENTWISE = [
    function
    for name, function in vars(keras.activations).items()
    if callable(function) and name not in MIXING
]


def make_step(operation, arguments, results, shared):
    """The step of a call."""
    step = STEPS.get(type(operation))
    if getattr(operation, "data_format", None) == "channels_first":
        reason = "channels first"
    elif shared and getattr(operation, "weights", ()):
        reason = "called more than once"
    elif not all(map(_is_plain, tree.flatten(arguments))):
        reason = "called with further arguments"
    elif step is None:
        reason = UNKNOWN
    else:
        reason = step.obstacle(operation, _signals(arguments), results)
    if reason:
        return ShrinkStep(operation, arguments, results, reason)
    return step(operation, arguments, results)


def _signals(arguments):
    return [x for x in tree.flatten(arguments) if isinstance(x, Signal)]


def _one_row(value):
    """A signal's constants as a batch of one row, other arguments as they are."""
    if not isinstance(value, Signal):
        return value
    shape = (1, *value.tensor.shape[1:])
    return ops.convert_to_tensor(
        np.broadcast_to(np.nan_to_num(value.constant), shape), value.tensor.dtype
    )


def _is_plain(value):
    """Whether an argument is the same for all channels and in all modes."""
    number = isinstance(value, numbers.Number) and not isinstance(value, bool)
    return isinstance(value, Signal) or value is None or number


def is_last(axis, results):
    return axis in (-1, len(results[0].tensor.shape) - 1)


def is_elementwise(operation):
    activation = getattr(operation, "activation", None)
    return activation is None or activation in ELEMENTWISE
