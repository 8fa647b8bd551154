"""Estimators: how a layer draws its output.

A layer computes y = linear(x, w) with random weights w = mean + scale · noise.
An estimator sees the layer only as the function `linear`, which is linear in
the inputs and in the kernel.
"""

import keras
from keras import ops

from keras_variance import arguments
from keras_variance.distributions import noises
from keras_variance.distributions.posteriors import TINY


class Estimator(arguments.Member):
    """Base of the estimators; a new one is a `__call__`."""

    family = "estimator"

    def check(self, noise):
        """Raise ValueError if weights with this noise can't be drawn so."""

    def __call__(self, linear, inputs, mean, scale, noise, seed, channel_axis=-1):
        """Draw the outputs of a layer.

        Args:
            linear: Function of (inputs, kernel).
            inputs: Tensor, (batch, …).
            mean: Means of the weights, a tensor; None stands for 0.
            scale: Their standard deviations, up to sign, a tensor.
            noise: A `Noise`.
            seed: A `keras.random.SeedGenerator` for this call alone.
            channel_axis: Axis of the channels in inputs and outputs.

        Returns:
            Tensor of the dtype of `inputs`.
        """
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_variance")
class MomentMatching(Estimator):
    """y = linear(x, mean) + √linear(x², scale²) · ε, ε ~ N(0, 1).

    The output's own mean and variance, exactly, with Gaussian noise drawn
    independently for every entry of the output. For non-Gaussian noise the
    shape of the distribution is an approximation by the central limit theorem
    ("fast dropout"). The second moment is computed in single precision at
    least: the square of an input may overflow in half precision.

    Reference: Fast dropout training (Wang & Manning, ICML 2013).
    """

    def __call__(self, linear, inputs, mean, scale, noise, seed, channel_axis=-1):
        x = ops.cast(inputs, scale.dtype)
        variance = linear(ops.square(x), ops.square(scale))
        stddev = ops.sqrt(variance + TINY)  # + TINY: the gradient at 0
        normal = noises.Gaussian().sample(ops.shape(stddev), stddev.dtype, seed)
        return _shift(linear, inputs, mean, stddev * normal)


@keras.saving.register_keras_serializable("keras_variance")
class LocalReparameterization(MomentMatching):
    """As `MomentMatching`, where that is exact: Gaussian noise.

    Reference: Variational Dropout and the Local Reparameterization Trick
    (https://arxiv.org/abs/1506.02557), equation 6.
    """

    def check(self, noise):
        if not isinstance(noise, noises.Gaussian):
            raise ValueError(
                "`estimator='local_reparameterization'` is exact for Gaussian noise "
                "only. For other noise use 'moment_matching', the same computation "
                "as an approximation, or 'flipout' or 'weight_sampling'. "
                f"Received: noise={noise!r}"
            )


@keras.saving.register_keras_serializable("keras_variance")
class Flipout(Estimator):
    """y = linear(x, mean) + r ∘ linear(s ∘ x, scale · ε).

    ε is one draw of the noise for the batch; the signs r and s are ±1, drawn
    for each example and channel. As the noise is symmetric, each example sees
    weights of the right distribution, uncorrelated between examples.

    Reference: Flipout (https://arxiv.org/abs/1803.04386), equation 4.
    """

    def __call__(self, linear, inputs, mean, scale, noise, seed, channel_axis=-1):
        kernel = scale * noise.sample(ops.shape(scale), scale.dtype, seed)
        flipped = inputs * _signs(inputs, channel_axis, seed)
        outputs = linear(flipped, ops.cast(kernel, inputs.dtype))
        outputs *= _signs(outputs, channel_axis, seed)
        return _shift(linear, inputs, mean, outputs)


@keras.saving.register_keras_serializable("keras_variance")
class WeightSampling(Estimator):
    """y = linear(x, mean + scale · ε): one draw of the weights for the batch.

    Reference: Weight Uncertainty in Neural Networks
    (https://arxiv.org/abs/1505.05424), section 3.
    """

    def __call__(self, linear, inputs, mean, scale, noise, seed, channel_axis=-1):
        kernel = scale * noise.sample(ops.shape(scale), scale.dtype, seed)
        kernel = kernel if mean is None else mean + kernel
        return linear(inputs, ops.cast(kernel, inputs.dtype))


def _shift(linear, inputs, mean, outputs):
    """`outputs + linear(inputs, mean)`, in the dtype of `inputs`."""
    outputs = ops.cast(outputs, inputs.dtype)
    if mean is None:
        return outputs
    return linear(inputs, ops.cast(mean, inputs.dtype)) + outputs


def _signs(x, channel_axis, seed):
    """±1 for each example and channel of `x`, to multiply it with."""
    shape = [1] * len(x.shape)
    shape[0] = ops.shape(x)[0]
    shape[channel_axis] = x.shape[channel_axis]
    return noises.Bernoulli().sample(shape, x.dtype, seed)


MEMBERS = {
    "local_reparameterization": LocalReparameterization,
    "moment_matching": MomentMatching,
    "flipout": Flipout,
    "weight_sampling": WeightSampling,
}


def get(identifier):
    """An `Estimator` from a name, a config or an `Estimator`."""
    return arguments.get(identifier, Estimator, MEMBERS)
