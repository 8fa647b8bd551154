"""Rules of layers with several inputs."""

import functools

import keras
from keras import ops

from keras_variance import _keras
from keras_variance.layers import LearnedScale
from keras_variance.transforms.moments.linear import affine
from keras_variance.transforms.moments.rules import (
    Moments,
    UnsupportedError,
    moment_rule,
)

layers = keras.layers


@moment_rule(layers.Add, _keras.Add)
def add(layer, xs):
    """E[Σ xᵢ] = Σ E[xᵢ] and, of independent values, Var[Σ xᵢ] = Σ Var[xᵢ].

    Multiples aᵢ r of one value r are added first: Var[Σ aᵢ r] = (Σ aᵢ)² Var[r].
    """
    terms = {}
    for x in xs:
        if x.variance is not None:
            for factor, root in x.terms or ((1.0, x),):
                _, before = terms.get(id(root), (root, 0.0))
                terms[id(root)] = root, before + factor
    mean = _sum([x.mean for x in xs])
    parts = [root.variance * ops.square(factor) for root, factor in terms.values()]
    variance = ops.broadcast_to(_sum(parts), ops.shape(mean))
    return Moments(
        mean, variance, terms=tuple((factor, root) for root, factor in terms.values())
    )


@moment_rule(layers.Subtract, _keras.Subtract)
def subtract(layer, xs):
    """As `add`."""
    x, y = xs
    return add(layer, [x, affine(y, -1.0, 0.0)])


@moment_rule(layers.Average)
def average(layer, xs):
    """As `add`, divided by the number of inputs."""
    return affine(add(layer, xs), 1 / len(xs), 0.0)


@moment_rule(layers.Multiply, _keras.Multiply)
def multiply(layer, xs):
    """E[xy] = E[x] E[y], E[(xy)²] = E[x²] E[y²]: one input after the other."""
    return functools.reduce(_product, xs)


def _product(x, y):
    if x.variance is None:
        return affine(y, x.mean, 0.0)
    if y.variance is None:
        return affine(x, y.mean, 0.0)
    variance = (
        x.variance * ops.square(y.mean)
        + y.variance * ops.square(x.mean)
        + x.variance * y.variance
    )
    return Moments(x.mean * y.mean, variance)


@moment_rule(_keras.Divide, _keras.TrueDivide)
def divide(operation, xs):
    """`affine`, of what is divided by known values."""
    x, y = xs
    if y.variance is not None:
        raise UnsupportedError(
            f"'{operation.name}' divides by random values, whose inverse has no "
            "moments in closed form: use `keras_variance.mc_predict`. "
            f"Received: {operation}"
        )
    return affine(x, 1 / y.mean, 0.0)


@moment_rule(layers.Concatenate, _keras.Concatenate)
def concatenate(layer, xs):
    """The moments, side by side."""
    xs = [x.known() for x in xs]
    means, variances = [x.mean for x in xs], [x.variance for x in xs]
    last = layer.axis in (-1, len(means[0].shape) - 1)
    return Moments(
        layer.call(means), layer.call(variances), parts=tuple(xs) if last else ()
    )


@moment_rule(LearnedScale)
def learned_scale(layer, x):
    """The moments, and the log variances, which are known."""
    x = x.known()
    return Moments(layer.call(x.mean), layer.append(x.variance, 0.0))


def _sum(tensors):
    return functools.reduce(ops.add, tensors)
