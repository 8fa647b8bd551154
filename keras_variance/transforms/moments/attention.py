"""Rules of products of activations, and of the attention that is made of them."""

import math

import keras
from keras import ops

from keras_variance import _keras
from keras_variance.transforms.moments.rules import (
    Moments,
    UnsupportedError,
    moment_rule,
)

# What Keras puts in the place of a score that is masked
MASKED = -1e9


@moment_rule(_keras.Einsum, _keras.Matmul, keras.layers.Dot)
def bilinear(operation, xs):
    """Moments of a sum of products f(x, y) = Σ xᵢ yⱼ of independent values.

        E[f(x, y)] = f(E[x], E[y])
        Var[f(x, y)] = f(Var[x], E[y]² + Var[y]) + f(E[x]², Var[y])

    Exact where one output has each entry of x and of y once.
    """
    _check_products(operation, xs)
    x, y = xs

    def f(x, y):
        is_layer = isinstance(operation, keras.Layer)
        return operation.call([x, y]) if is_layer else operation.call(x, y)

    if x.variance is None:
        return Moments(f(x.mean, y.mean), f(ops.square(x.mean), y.variance))
    second = ops.square(y.mean)
    if y.variance is None:
        return Moments(f(x.mean, y.mean), f(x.variance, second))
    variance = f(x.variance, second + y.variance) + f(ops.square(x.mean), y.variance)
    return Moments(f(x.mean, y.mean), variance)


def _check_products(operation, xs):
    if getattr(operation, "normalize", False):
        problem = "normalizes its inputs"
    elif not isinstance(xs, list) or len(xs) != 2:
        problem = "multiplies other than two values"
    elif isinstance(operation, _keras.Einsum) and not _contracts(operation.subscripts):
        problem = f"adds up over indices of one value alone, '{operation.subscripts}'"
    else:
        return
    raise UnsupportedError(
        f"'{operation.name}' {problem}, which has no rule for moments: use "
        f"`keras_variance.mc_predict`. Received: {operation}"
    )


def _contracts(subscripts):
    """Whether no operand has an index twice, and both have each that is added up."""
    letters = subscripts.replace(" ", "").replace("...", "")
    inputs, arrow, output = letters.partition("->")
    first, second = inputs.split(",")
    unique = all(len({*x}) == len(x) for x in (first, second))
    return bool(arrow) and unique and {*first} ^ {*second} <= {*output}


@moment_rule(_keras.DotProductAttention)
def attention(operation, xs):
    """Moments of A v with known attention weights A, for known queries and keys:
    Σₛ Aₜₛ E[vₛ] and Σₛ Aₜₛ² Var[vₛ].

    Reference: Vaswani et al., Attention Is All You Need
    (https://arxiv.org/abs/1706.03762), equation 1.
    """
    query, key, value, bias, mask, scale = (*xs, None, None, None)[:6]
    known = (query, key, bias, mask, scale)
    random = any(x is not None and x.variance is not None for x in known)
    if random or operation.attn_logits_soft_cap is not None:
        raise UnsupportedError(
            f"'{operation.name}' must have queries and keys that are known, and no "
            "soft cap, for moments: use `keras_variance.mc_predict`. "
            f"Received: {operation}"
        )
    scores = ops.einsum("btnh,bsnh->bnts", query.mean, key.mean)
    scores *= 1 / math.sqrt(query.mean.shape[-1]) if scale is None else scale.mean
    if bias is not None:
        scores += bias.mean
    if mask is not None:
        scores = ops.where(mask.mean != 0, scores, MASKED)
    if operation.is_causal:
        seen = ops.tril(ops.ones(ops.shape(scores)[-2:], dtype="bool"))
        scores = ops.where(seen, scores, MASKED)
    weights = ops.softmax(scores)
    mean = ops.einsum("bnts,bsnh->btnh", weights, value.mean)
    if value.variance is None:
        return Moments(mean)
    squares = ops.square(weights)
    return Moments(mean, ops.einsum("bnts,bsnh->btnh", squares, value.variance))
