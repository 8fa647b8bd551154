"""Rules of layers that are linear in their input."""

import keras
from keras import ops

from keras_variance.layers import VARIANCE_LAYERS, VarianceLayer, add_bias
from keras_variance.moments.rules import Moments, moment_rule

layers = keras.layers


@moment_rule(VarianceLayer)
def variance_layer(layer, x):
    """As `linear_moments`, for the layer's random kernel.

    The outputs of a layer with mean-zero weights are uncorrelated. As drawn by
    local reparameterization and moment matching, those of a known input are
    independent, over positions too; other estimators share weights between
    positions, which is ignored.
    """
    return linear_moments(layer, layer.linear, layer.kernel_mean, layer.kernel_scale, x)


@moment_rule(*VARIANCE_LAYERS)
def stock_layer(layer, x):
    """As `linear_moments`, for a kernel that is known."""
    linear = VARIANCE_LAYERS[_base(layer)].linear

    def apply(inputs, kernel):
        return linear(layer, inputs, kernel)

    kernel = ops.cast(layer.kernel, x.mean.dtype)
    return linear_moments(layer, apply, kernel, None, x)


def linear_moments(layer, linear, mean, scale, x):
    """Moments of y = linear(x, w) + b, with w and x random and independent.

        E[y] = linear(E[x], E[w]) + b
        Var[y] = linear(Var[x], E[w]² + Var[w]) + linear(E[x]², Var[w])

    Args:
        layer: The layer, for its bias.
        linear: Function of (inputs, kernel).
        mean, scale: Means and standard deviations of the weights; None stands for 0.
        x: The input's `Moments`.

    Reference: Kingma et al., Variational Dropout and the Local Reparameterization
    Trick (https://arxiv.org/abs/1506.02557), equation 6 (known inputs); Wang &
    Manning, Fast dropout training (ICML 2013).
    """
    squares = [ops.square(each) for each in (mean, scale) if each is not None]
    variances = []
    if x.variance is not None:
        variances.append(linear(x.variance, sum(squares)))
    if scale is not None:
        variances.append(linear(ops.square(x.mean), ops.square(scale)))
    variance = sum(variances[1:], variances[0])
    expected = ops.zeros_like(variance) if mean is None else linear(x.mean, mean)
    covariance = None
    if isinstance(layer, layers.Dense) and mean is not None and x.variance is not None:

        def covariance():
            return _dense_covariance(mean, x.variance, variance)

    return Moments(add_bias(layer, expected), variance, covariance)


def _dense_covariance(mean, input_variance, variance):
    """Cov[yᵢ, yⱼ] = Σₖ E[wₖᵢ] E[wₖⱼ] Var[xₖ] for i ≠ j, `variance` for i = j."""
    inputs, units = mean.shape
    products = ops.reshape(mean[:, :, None] * mean[:, None, :], (inputs, units**2))
    covariance = ops.matmul(input_variance, products)
    shape = (*ops.shape(input_variance)[:-1], units, units)
    diagonal = ops.eye(units, dtype=covariance.dtype)
    covariance = ops.reshape(covariance, shape) * (1 - diagonal)
    return covariance + variance[..., None] * diagonal


def _base(layer):
    return next(base for base in type(layer).__mro__ if base in VARIANCE_LAYERS)


def affine(x, scale, shift):
    """Moments of scale · x + shift."""
    return Moments(x.mean * scale + shift, x.variance * ops.square(scale))


@moment_rule(layers.BatchNormalization)
def batch_normalization(layer, x):
    """`affine`, with the moving statistics, as in inference."""
    shape = [1] * len(x.mean.shape)
    shape[layer.axis] = -1

    def channels(weight, default):
        return default if weight is None else ops.reshape(weight, shape)

    mean, variance = channels(layer.moving_mean, 0), channels(layer.moving_variance, 1)
    scale = ops.rsqrt(variance + layer.epsilon) * channels(layer.gamma, 1)
    return affine(x, scale, channels(layer.beta, 0) - mean * scale)


@moment_rule(layers.Rescaling)
def rescaling(layer, x):
    """`affine`."""
    return affine(x, layer.scale, layer.offset)


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


DROPOUTS = (
    layers.Dropout,
    layers.GaussianDropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
)


def dropout_noise(layer, x):
    """Moments of x ∘ ε, with E[ε] = 1 and Var[ε] = r / (1 − r), r the layer's rate.

    Reference: Srivastava et al., Dropout (JMLR 15, 2014), section 10.
    """
    noise = layer.rate / (1 - layer.rate)
    square = noise * ops.square(x.mean)
    if x.variance is None:
        return Moments(x.mean, square)
    return Moments(x.mean, (1 + noise) * x.variance + square)


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
)
def rearrangement(layer, x):
    """What moves entries, or adds zeros."""
    return Moments(layer.call(x.mean), layer.call(x.variance))
