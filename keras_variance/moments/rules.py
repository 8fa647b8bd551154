"""`Moments`, and the registry of the rules that carry them through layers."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Moments:
    """A random activation: the mean and the variance of each entry.

    A rule takes the entries of an activation as independent, and as Gaussian
    where more than mean and variance counts.

    Attributes:
        mean, variance: Tensors of the activation's shape, of single precision at
            least. A variance of None stands for 0 everywhere: an activation that
            is known.
        covariance: Function of no argument that returns the covariances over the
            last axis, (…, n, n), or None where entries are independent.
        entropy: Function of no argument that returns the expected entropy over the
            last axis, (…), in nats, or None where it isn't known.
        source: Where the activation is a nondecreasing function of another, entry
            by entry: (the function's rule, its operation, the other's `Moments`).
    """

    mean: Any
    variance: Any = None
    covariance: Callable | None = None
    entropy: Callable | None = None
    source: tuple | None = None


RULES = {}


def moment_rule(*operations):
    """Decorator that makes a function the rule of layers or activation functions.

    A rule is a function of (operation, x) that returns the `Moments` of
    `operation(x)`, with `x` the `Moments` of its input, a list of them for a layer
    that merges. It is written with `keras.ops`. Of a layer with an attribute
    `activation` it returns what comes before: the activation has a rule of its own.

    Args:
        *operations: Layer classes or activation functions. A subclass has the rule
            of its base, unless it overrides `call`.

    Example:

    >>> import keras
    >>> class Double(keras.layers.Layer):
    ...     def call(self, inputs):
    ...         return 2 * inputs
    >>> @moment_rule(Double)
    ... def double(layer, x):
    ...     return Moments(2 * x.mean, 4 * x.variance)
    """

    def register(rule):
        RULES.update(dict.fromkeys(operations, rule))
        return rule

    return register


def find_rule(operation):
    """The rule of a layer or an activation function; ValueError if it has none."""
    if operation in RULES:
        return RULES[operation]
    kind = type(operation)
    for base in kind.__mro__:
        if base in RULES and kind.call is base.call:
            return RULES[base]
    name = getattr(operation, "name", None) or getattr(operation, "__name__", None)
    raise ValueError(
        f"'{name}' of class {kind.__module__}.{kind.__name__} has no rule for moments. "
        f"There are rules for {', '.join(supported())}. Use "
        "`keras_variance.mc_predict`, which takes any model, or write a rule: see "
        f"`keras_variance.moments.moment_rule`. Received: {operation}"
    )


def supported() -> list[str]:
    """Names of the layers and activation functions that have a rule."""
    return sorted({operation.__name__ for operation in RULES})
