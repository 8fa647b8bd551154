"""Rules of layers with several inputs, which are taken as independent."""

import functools

import keras
from keras import ops

from keras_variance import operators
from keras_variance.moments.rules import Moments, moment_rule

layers = keras.layers


def known(x):
    """The `Moments` with a variance that is a tensor."""
    return x if x.variance is not None else Moments(x.mean, ops.zeros_like(x.mean))


@moment_rule(layers.Add, operators.Add)
def add(layer, xs):
    """E[Σ xᵢ] = Σ E[xᵢ], Var[Σ xᵢ] = Σ Var[xᵢ]."""
    xs = [known(x) for x in xs]
    return Moments(_sum([x.mean for x in xs]), _sum([x.variance for x in xs]))


@moment_rule(layers.Subtract, operators.Subtract)
def subtract(layer, xs):
    """As `add`."""
    x, y = xs
    return add(layer, [x, Moments(-y.mean, y.variance)])


@moment_rule(layers.Average)
def average(layer, xs):
    """As `add`, divided by the number of inputs."""
    x = add(layer, xs)
    return Moments(x.mean / len(xs), x.variance / len(xs) ** 2)


@moment_rule(layers.Multiply, operators.Multiply)
def multiply(layer, xs):
    """E[xy] = E[x] E[y], E[(xy)²] = E[x²] E[y²]: one input after the other."""
    return functools.reduce(_product, [known(x) for x in xs])


def _product(x, y):
    variance = (
        x.variance * ops.square(y.mean)
        + y.variance * ops.square(x.mean)
        + x.variance * y.variance
    )
    return Moments(x.mean * y.mean, variance)


@moment_rule(layers.Concatenate)
def concatenate(layer, xs):
    """The moments, side by side."""
    xs = [known(x) for x in xs]
    means, variances = [x.mean for x in xs], [x.variance for x in xs]
    return Moments(layer.call(means), layer.call(variances))


def _sum(tensors):
    return functools.reduce(ops.add, tensors)
