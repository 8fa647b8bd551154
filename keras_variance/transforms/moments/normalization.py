"""Rules of layers that divide by statistics of their own input."""

import keras
from keras import ops

from keras_variance.transforms.moments.rules import (
    Moments,
    UnsupportedError,
    moment_rule,
)

layers = keras.layers


def normalized(x, axes, centered, epsilon):
    """Moments of y = a / √b, b = ā² + ε, to the order of 1/n of n entries, nearly.

    a is x − x̄ (layer and group norm) or x (RMS norm), and a bar a mean over the axes,
    of n entries. With A = E[a], B = E[b], v = Var[x],

        E[y] ≈ A / √B − Cov[a, b] / 2√B³ + 3 A Var[b] / 8√B⁵
        Var[y] ≈ Var[a] / B − (A Cov[a, b] + 2v²/n) / B² + (A²/4 + Var[a]) Var[b] / B³
        Cov[a, b] = 2Av/n, less its mean if centered,  Var[b] ≈ Σ (2v² + 4A²v) / n²

    Of entries with means of the order of 1 and standard deviations from 0.1 to 2, from
    16 entries on, standard deviations are off by 4 % at most, from 32 on by 2 %, and
    means by 0.01. Outputs are taken as independent: their correlations are of the order
    of 1/n. That is no matter to a layer with weights behind it, and much to a sum over
    these axes, which is nearly constant.

    Reference: Oehlert, A note on the delta method (The American Statistician 46, 1992).
    """

    def average(values):
        return ops.mean(values, axis=axes, keepdims=True)

    n = 1.0
    for axis in axes:
        n = n * ops.cast(ops.shape(x.mean)[axis], x.mean.dtype)
    a, v = x.mean, x.variance
    if centered:
        a = a - average(a)
    of_a, with_b = v, 2 / n * a * v
    of_b = average(2 * ops.square(v) + 4 * ops.square(a) * v) / n
    b = average(ops.square(a) + v) + epsilon
    if centered:
        b = b - average(v) / n
        of_a = v * (1 - 2 / n) + average(v) / n
        with_b = with_b - average(with_b)
    mean = (a - with_b / (2 * b) + 3 / 8 * a * of_b / ops.square(b)) / ops.sqrt(b)
    variance = (
        of_a
        - (a * with_b + 2 / n * ops.square(v)) / b
        + (ops.square(a) / 4 + of_a) * of_b / ops.square(b)
    ) / b
    return Moments(mean, ops.maximum(variance, 0))


def _scaled(x, gamma, beta, axes):
    """γ x + β, with γ and β of some of the axes, or None."""
    shape = [1] * len(x.mean.shape)
    for axis in axes:
        shape[axis] = x.mean.shape[axis]
    mean, variance = x.mean, x.variance
    if gamma is not None:
        gamma = ops.reshape(ops.cast(gamma, mean.dtype), shape)
        mean, variance = gamma * mean, ops.square(gamma) * variance
    if beta is not None:
        mean = mean + ops.reshape(ops.cast(beta, mean.dtype), shape)
    return Moments(mean, variance)


def _axes(layer):
    return (layer.axis,) if isinstance(layer.axis, int) else tuple(layer.axis)


@moment_rule(layers.LayerNormalization)
def layer_normalization(layer, x):
    """As `normalized`."""
    if layer.rms_scaling:
        raise UnsupportedError(
            f"Layer '{layer.name}' must not scale by the variance, for moments: use "
            f"`RMSNormalization`. Received: rms_scaling={layer.rms_scaling}"
        )
    axes = _axes(layer)
    return _scaled(
        normalized(x.known(), axes, True, layer.epsilon), layer.gamma, layer.beta, axes
    )


@moment_rule(layers.RMSNormalization)
def rms_normalization(layer, x):
    """As `normalized`, without centering."""
    x = normalized(x.known(), _axes(layer), False, layer.epsilon)
    scale = ops.cast(layer.scale, x.mean.dtype)  # of the last axes, as in the layer
    return Moments(x.mean * scale, x.variance * ops.square(scale))


@moment_rule(layers.GroupNormalization)
def group_normalization(layer, x):
    """As `normalized`, of each group of channels."""
    shape, rank = ops.shape(x.mean), len(x.mean.shape)
    axis = layer.axis % rank
    split = (*shape[:axis], layer.groups, -1, *shape[axis + 1 :])
    axes = [k for k in range(1, rank + 1) if k != axis]
    groups = x.known().map(lambda values: ops.reshape(values, split))
    groups = normalized(groups, axes, True, layer.epsilon)
    x = groups.map(lambda values: ops.reshape(values, shape))
    return _scaled(x, layer.gamma, layer.beta, (axis,))
