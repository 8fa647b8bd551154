"""Branches of one random value that meet again: exact, warned of, or refused."""

import dataclasses
import itertools
import warnings

from keras_variance.layers import VarianceLayer
from keras_variance.transforms.moments import linear, merging, pooling
from keras_variance.transforms.moments.rules import UnsupportedError, name_of

# Rules whose mean is right if the inputs are dependent
SUMS = (merging.add, merging.subtract, merging.average)
# Rules that repeat the entries of an input where another has more
BROADCASTING = (
    *SUMS,
    merging.multiply,
    merging.divide,
    pooling.maximum_of,
    pooling.minimum_of,
)


class DependenceWarning(UserWarning):
    """A covariance is ignored: a variance may be half the right one, or too large."""


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """The noise of one call of a layer.

    Attributes:
        name: Of the layer.
    """

    name: str


def merged(operation, inputs, is_source):
    """The noise that decides what an operation makes of inputs, with a warning if they
    are dependent."""
    if _shared(each.origins for each in inputs):
        _warn(operation, inputs)
    origins = frozenset().union(*(each.origins for each in inputs))
    return origins | {Origin(name_of(operation))} if is_source else origins


def follow(operation, rule, inputs, x, is_source, strict=True):
    """The result of a rule, with the noise that decides it.

    Raises:
        ValueError: If the inputs are dependent and the rule needs them independent; if
            not `strict`, there is a warning.
    """
    if any(x is each for each in inputs):
        return x
    inputs = [each for each in inputs if each.origins]
    origins = frozenset().union(*(each.origins for each in inputs))
    if is_source:
        # What has mean zero, given its input, is uncorrelated with it
        alone = isinstance(operation, VarianceLayer) and any(
            weight.mean is None for weight in operation.random_weights
        )
        origins = {Origin(name_of(operation))} | (frozenset() if alone else origins)
    x = x.from_(origins)
    if rule is merging.concatenate:
        if not _correlated([t for each in inputs for t in _terms(each)]):
            shared = _shared(_terms(each) for each in inputs)
            return dataclasses.replace(x, parts=x.parts if shared else ())
        _warn(operation, inputs)
        return dataclasses.replace(x, parts=())
    if rule is linear.repetition or (
        rule in BROADCASTING and any(_is_broadcast(each, x) for each in inputs)
    ):
        _warn(operation, inputs, "has copies of")
    # Outputs of a dense layer share its inputs, and are added up
    added = rule in (pooling.mean, pooling.sum_of)
    if added and any(each.covariance is not None for each in inputs):
        _warn(operation, inputs, "adds up")
    parts = [part for each in inputs for part in each.parts]
    if parts and not linear.can_fold(operation, inputs[0]):
        _warn(operation, parts)
    if rule in SUMS and _correlated([t for each in inputs for t in _terms(each)]):
        _warn(operation, inputs)
    elif rule not in SUMS and _shared(each.origins for each in inputs):
        if not strict:
            _warn(operation, inputs, "multiplies")
            return x
        raise UnsupportedError(
            f"Layer '{name_of(operation)}' merges values that depend on the same "
            f"noise, of {_names(inputs)}: their moments do not follow from the "
            f"moments of each. Use `keras_variance.mc_predict`. Received: {operation}"
        )
    return x


def _is_broadcast(x, result):
    """Whether a result has entries of an input more than once, in an example."""
    sizes, wanted = x.mean.shape[1:], result.mean.shape[1:]
    sizes = (1,) * (len(wanted) - len(sizes)) + tuple(sizes)
    return any(a == 1 != b for a, b in zip(sizes, wanted, strict=True))


def _terms(x):
    return tuple(root for _, root in x.terms) or (x,)


def _correlated(roots):
    """Whether different values in a list depend on the same noise."""
    different = {id(root): root for root in roots}.values()
    return _shared(root.origins for root in different)


def _shared(sets):
    """Whether any two sets have an element in common."""
    pairs = itertools.combinations([frozenset(each) for each in sets], 2)
    return any(a & b for a, b in pairs)


def _names(inputs):
    names = {origin.name for each in inputs for origin in each.origins}
    return ", ".join(f"'{name}'" for name in sorted(names))


def _warn(operation, inputs, does="merges"):
    warnings.warn(
        f"'{name_of(operation)}' {does} values that depend on the same noise, of "
        f"{_names(inputs)}: their covariance is ignored, and the variance may be half "
        "the right one, or far too large. Compare with `keras_variance.mc_predict`.",
        DependenceWarning,
        stacklevel=2,
    )
