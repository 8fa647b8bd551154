"""`Moments`, and the registry of the rules that carry them through layers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_variance import _keras, checks


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """A random activation: the mean and the variance of each entry.

    A rule takes the entries of an activation as independent, and as Gaussian
    where more than mean and variance counts.

    Attributes:
        mean, variance: Tensors of the activation's shape, of single precision at
            least. A variance of None stands for 0 everywhere: an activation that
            is known.
        covariance: A `linear.Covariance` over the last axis, or None where entries
            are independent.
        entropy: Function of no argument that returns the expected entropy over the
            last axis, (…), in nats, or None where it isn't known.
        source: If the activation is a nondecreasing function of another, entry
            by entry: (the function's rule, its operation, the other's `Moments`).
        terms: If the activation is a sum of multiples of others plus a constant:
            ((factor, `Moments`), …). Empty for a multiple of itself alone.
        parts: If it is a concatenation over the last axis of values that have terms
            in common: these.
        origins: The noise that decides it, `dependence.Origin`s.
    """

    mean: Any
    variance: Any = None
    covariance: Any = None
    entropy: Callable | None = None
    source: tuple | None = None
    terms: tuple = ()
    parts: tuple = ()
    origins: frozenset = frozenset()

    @classmethod
    def of(cls, value):
        """The moments of a value that is known, a tensor."""
        mask = _keras.get_mask(value)  # before it is lost in the conversion
        value = ops.convert_to_tensor(value)
        dtype = keras.backend.standardize_dtype(value.dtype)
        value = ops.cast(value, keras.backend.result_type(dtype, "float32"))
        return cls(_keras.set_mask(value, mask))

    def known(self):
        """These, with a variance that is a tensor."""
        if self.variance is not None:
            return self
        return Moments(self.mean, ops.zeros_like(self.mean))

    def from_(self, origins):
        """These, decided by other noise."""
        return dataclasses.replace(self, origins=frozenset(origins))

    def map(self, function):
        """These, with a function applied to mean, variance and expected entropy."""
        variance, entropy = self.variance, self.entropy
        return Moments(
            function(self.mean),
            None if variance is None else function(variance),
            entropy=None if entropy is None else lambda: function(entropy()),
        )


class UnsupportedError(ValueError):
    """Moments cannot go through an operation."""


RULES: dict[type, Callable] = {}


def moment_rule(*operations) -> Callable:
    """Decorator that makes a function the rule of layers or activation functions.

    A rule is a function of (operation, x) that returns the `Moments` of
    `operation(x)`, with `x` the `Moments` of its input, a list of them for a layer
    that merges. It is written with `keras.ops`. Of a layer with an attribute
    `activation` it returns what comes before: the activation has a rule of its own.

    Args:
        *operations: Layer classes or activation functions. A subclass has the rule
            of its base, unless it overrides `call`.

    Raises:
        ValueError: If they are none of these, or the rule is no function.

    Example:

    >>> import keras
    >>> class Double(keras.layers.Layer):
    ...     def call(self, inputs):
    ...         return 2 * inputs
    >>> @moment_rule(Double)
    ... def double(layer, x):
    ...     return Moments(2 * x.mean, 4 * x.variance)

    A function of each entry has the rule `quadrature`:

    >>> from keras_variance.transforms.moments import quadrature
    >>> def cube(x):
    ...     return x**3
    >>> rule = moment_rule(cube)(quadrature)
    """

    known = operations and all(map(callable, operations))
    expected = "layer classes or activation functions"
    checks.require(known, "operations", expected, operations)

    def register(rule):
        checks.require(callable(rule), "rule", "a function of (operation, x)", rule)
        RULES.update(dict.fromkeys(operations, rule))
        return rule

    return register


def find_rule(operation: keras.Operation) -> Callable | None:
    """The rule of a layer or an activation function.

    Raises:
        UnsupportedError: If it has none. It is a ValueError.
    """
    checks.require(callable(operation), "operation", "a layer or function", operation)
    rule = _rule_of(operation)
    if rule is not None:
        return rule
    name, kind = name_of(operation), type(operation)
    raise UnsupportedError(
        f"'{name}' of class {kind.__module__}.{kind.__name__} has no rule for moments. "
        "Use `keras_variance.mc_predict`, which takes any model, or write a rule with "
        "`keras_variance.moments.moment_rule`. "
        f"Received: operation={operation}"
    )


def has_rule(operation) -> bool:
    """Whether a layer or an activation function has a rule."""
    return _rule_of(operation) is not None


def _rule_of(operation):
    if operation in RULES:
        return RULES[operation]
    kind = type(operation)
    for base in kind.__mro__:
        if base in RULES and kind.call is base.call:
            return RULES[base]
    return None


def name_of(operation):
    """The name of a layer or a function."""
    return getattr(operation, "name", None) or getattr(operation, "__name__", None)


def supported() -> list[str]:
    """Names of the layers and activation functions that have a rule."""
    names = {operation.__name__ for operation in RULES} - {_keras.set_mask.__name__}
    return sorted(names)
