"""Rules of layers that are linear in their input."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_variance import _keras
from keras_variance.distributions.posteriors import TINY
from keras_variance.layers import VarianceEmbedding, VarianceLayer
from keras_variance.layers.base import add_bias
from keras_variance.layers.stock import (
    VARIANCE_LAYERS,
    declared,
    effective_kernel,
    stock_class,
)
from keras_variance.transforms.moments.rules import (
    Moments,
    UnsupportedError,
    moment_rule,
)

layers = keras.layers


@moment_rule(VarianceLayer)
def variance_layer(layer, x):
    """As `linear_moments`, for the layer's random kernel.

    The outputs of a layer with mean-zero weights are uncorrelated. As drawn by
    local reparameterization and moment matching, those of a known input are
    independent, over positions too; other estimators share weights between
    positions, which is ignored. Of kernels in a row it is so one after the other, as
    of layers in a row.
    """
    for random in layer.random_linears():
        x = linear_moments(layer, random, x)
    return biased(layer, x)


@moment_rule(VarianceEmbedding)
def embedding(layer, x):
    """As `variance_layer`, of tokens that are known."""
    if x.variance is not None or layer.input_dim > 2**24:
        raise UnsupportedError(
            f"Layer '{layer.name}' needs tokens that are known, fewer than 2^24, for "
            f"moments. Received: input_dim={layer.input_dim}, random "
            f"inputs={x.variance is not None}"
        )
    return variance_layer(layer, x)


SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)


@moment_rule(*(set(VARIANCE_LAYERS) - {layers.Embedding, *SEPARABLE}))
def stock_layer(layer, x):
    """As `linear_moments`, for a kernel that is known."""
    kernel = ops.cast(effective_kernel(layer), x.mean.dtype)
    return known_moments(layer, declared(layer, "linear"), kernel, x)


@moment_rule(*SEPARABLE)
def separable_convolution(layer, x):
    """As `linear_moments`: two kernels in a row are one, Σₘ D[…, c, m] P[c, m, f]."""
    depthwise, pointwise = (
        ops.cast(kernel, x.mean.dtype)
        for kernel in (layer.depthwise_kernel, layer.pointwise_kernel)
    )
    pointwise = ops.reshape(pointwise, (*depthwise.shape[-2:], layer.filters))

    def convolve(inputs, kernel):
        return ops.conv(
            inputs,
            kernel,
            strides=list(layer.strides),
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )

    kernel = ops.einsum("...cm,cmf->...cf", depthwise, pointwise)
    return known_moments(layer, convolve, kernel, x)


def known_moments(layer, linear, kernel, x):
    """Moments of y = linear(x, w) + b for a known kernel w."""
    return biased(layer, linear_moments(layer, Known(linear, kernel), x))


class Known(NamedTuple):
    """In the place of a `RandomLinear`: a linear map whose kernel is known."""

    linear: Callable
    mean: Any
    scale: None = None


def biased(layer, x):
    """Moments of x + b."""
    return dataclasses.replace(x, mean=add_bias(layer, x.mean))


def linear_moments(layer, random, x):
    """Moments of y = linear(x, w), with w and x random and independent.

        E[y] = linear(E[x], E[w])
        Var[y] = linear(Var[x], E[w]² + Var[w]) + linear(E[x]², Var[w])

    Args:
        layer: The layer.
        random: A `RandomLinear` of it, or a `Known` one.
        x: The input's `Moments`.

    Reference: Kingma et al., Variational Dropout and the Local Reparameterization
    Trick (https://arxiv.org/abs/1506.02557), equation 6 (known inputs); Wang &
    Manning, Fast dropout training (ICML 2013).
    """
    linear, mean, variances = random.linear, random.mean, []
    if mean is not None and x.variance is not None:
        variances.append(_known_kernel(layer, linear, mean, x))
    if random.scale is not None:
        variances.append(random.square_linear(x.mean, random.scale, x.variance))
    variance = sum(variances[1:], variances[0])
    expected = ops.zeros_like(variance) if mean is None else linear(x.mean, mean)
    covariance = None
    if isinstance(layer, layers.Dense) and mean is not None and x.variance is not None:
        covariance = Covariance(mean, x.variance, variance)
    return Moments(expected, variance, covariance)


def _known_kernel(layer, linear, kernel, x):
    """linear(Var[x], w²) for a known kernel w.

    Of a concatenation of multiples aₚ r of one value r with itself, the part of r is
    linear(Var[r], (Σ aₚ wₚ)²), with wₚ what the layer reads part p with.
    """
    if not can_fold(layer, x):
        return linear(x.variance, ops.square(kernel))
    axis = declared(layer, "input_axis")
    folded, start = {}, 0
    for part in x.parts:
        size = part.mean.shape[-1]
        index = [slice(None)] * len(kernel.shape)
        index[axis] = slice(start, start + size)
        start += size
        for factor, root in part.terms or ((1.0, part),):
            factor = ops.convert_to_tensor(factor, kernel.dtype)
            shape = [1] * len(kernel.shape)
            shape[axis] = -1
            weights = kernel[tuple(index)] * ops.reshape(factor, shape)
            _, before = folded.get(id(root), (root, 0.0))
            folded[id(root)] = root, before + weights
    parts = [linear(r.variance, ops.square(w)) for r, w in folded.values()]
    return sum(parts[1:], parts[0])


def can_fold(layer, x):
    """Whether a layer's kernel can be folded over the parts of its input."""
    if not x.parts or getattr(layer, "groups", 1) != 1:
        return False
    linear = stock_class(layer) is not None
    return linear and declared(layer, "input_axis") is not None


class Covariance(NamedTuple):
    """Of the outputs of a dense layer with independent inputs.

        Cov[yᵢ, yⱼ] = Σₖ E[wₖᵢ] E[wₖⱼ] Var[xₖ] for i ≠ j, Var[yᵢ] for i = j

    Attributes:
        kernel: E[w], (inputs, units).
        input_variance: Var[x], (…, inputs).
        variance: Var[y], (…, units).
    """

    kernel: Any
    input_variance: Any
    variance: Any

    def matrix(self):
        """(…, units, units); of the order of inputs · units² numbers in between."""
        inputs, units = self.kernel.shape
        products = self.kernel[:, :, None] * self.kernel[:, None, :]
        products = ops.reshape(products, (inputs, units**2))
        covariance = ops.matmul(self.input_variance, products)
        shape = (*ops.shape(self.input_variance)[:-1], units, units)
        diagonal = ops.eye(units, dtype=covariance.dtype)
        covariance = ops.reshape(covariance, shape) * (1 - diagonal)
        return covariance + self.variance[..., None] * diagonal

    def deviations(self, points):
        """Deviations of y at points z, (points, inputs), of standard normal inputs.

        Σₖ E[wₖᵢ] √Var[xₖ] zₖ, scaled so that those of each output have the right
        variance: (…, points, units).
        """
        stddev = ops.sqrt(self.input_variance + TINY)[..., None, :]
        deviations = ops.matmul(stddev * points, self.kernel)
        square = ops.mean(ops.square(deviations), axis=-2, keepdims=True)
        ratio = self.variance[..., None, :] / ops.maximum(square, TINY)
        return deviations * ops.sqrt(ratio + TINY)


def affine(x, scale, shift):
    """Moments of scale · x + shift."""
    if x.variance is None:
        return Moments(x.mean * scale + shift)
    variance = x.variance * ops.square(scale)
    terms = tuple((factor * scale, root) for factor, root in x.terms or ((1.0, x),))
    return Moments(x.mean * scale + shift, variance, terms=terms)


@moment_rule(layers.BatchNormalization)
def batch_normalization(layer, x):
    """`affine`, with the moving statistics, as in inference."""
    shape = [1] * len(x.mean.shape)
    shape[layer.axis] = -1

    def channels(weight, default):
        if weight is None:
            return default
        return ops.cast(ops.reshape(weight, shape), x.mean.dtype)

    mean, variance = channels(layer.moving_mean, 0), channels(layer.moving_variance, 1)
    scale = ops.rsqrt(variance + layer.epsilon) * channels(layer.gamma, 1)
    return affine(x, scale, channels(layer.beta, 0) - mean * scale)


@moment_rule(layers.Rescaling)
def rescaling(layer, x):
    """`affine`."""
    return affine(x, layer.scale, layer.offset)


@moment_rule(_keras.Negative)
def negative(operation, x):
    """`affine`."""
    return affine(x, -1.0, 0.0)


@moment_rule(
    layers.Activation,
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    keras.activations.linear,
)
def identity(operation, x):
    """What leaves its input as it is, in inference."""
    return x


@moment_rule(_keras.set_mask)
def masked(operation, xs):
    """The first of two; the second is a mask."""
    x, mask = xs
    _keras.set_mask(x.mean, mask.mean)
    return x


def noise(layer, x):
    """Moments of what dropout and noise layers do in training.

        x ∘ ε, E[ε] = 1, Var[ε] = r / (1 − r), r the rate (dropout)
        x + ε, E[ε] = 0, Var[ε] = s² (Gaussian noise)
        a (x b + c (1 − b)) + d, b ~ Bernoulli(1 − r), c, a, d constants (alpha dropout)

    References: Srivastava et al., Dropout (JMLR 15, 2014), section 10; Klambauer et
    al., Self-Normalizing Neural Networks (https://arxiv.org/abs/1706.02515).
    """
    x = x.known()
    if isinstance(layer, layers.GaussianNoise):
        return Moments(x.mean, x.variance + layer.stddev**2)
    second = ops.square(x.mean) + x.variance
    if not isinstance(layer, layers.AlphaDropout):
        return Moments(x.mean, x.variance + layer.rate / (1 - layer.rate) * second)
    keep, c = 1 - layer.rate, -1.6732632423543772 * 1.0507009873554805
    a = (keep + c**2 * keep * layer.rate) ** -0.5
    dropped = x.variance + ops.square(x.mean - c) * layer.rate
    return Moments(
        a * (keep * x.mean + layer.rate * c) - a * c * layer.rate, a**2 * keep * dropped
    )


@moment_rule(
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.Flatten,
    layers.Permute,
    layers.Reshape,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    _keras.ExpandDims,
    _keras.GetItem,
    _keras.Reshape,
    _keras.Squeeze,
    _keras.Transpose,
)
def rearrangement(operation, x):
    """What moves entries, leaves some out, or adds zeros."""
    x, *options = x if isinstance(x, list) else [x]  # a slice is one
    return Moments(*(operation.call(y, *options) for y in (x.mean, x.variance)))


@moment_rule(
    layers.RepeatVector,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
)
def repetition(layer, x):
    """Copies of entries: each has the right moments, and all copies are dependent."""
    if getattr(layer, "interpolation", "nearest") != "nearest":
        raise UnsupportedError(
            f"Layer '{layer.name}' must repeat the nearest entry, for moments. "
            f"Received: interpolation={layer.interpolation!r}"
        )
    return rearrangement(layer, x)
