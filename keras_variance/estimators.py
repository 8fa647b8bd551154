"""Estimators: how a layer draws its output."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_variance import families
from keras_variance.distributions import noises
from keras_variance.distributions.posteriors import TINY

__all__ = [
    "MEMBERS",
    "Estimator",
    "Flipout",
    "LocalReparameterization",
    "MomentMatching",
    "RandomLinear",
    "WeightSampling",
    "get",
]


class RandomLinear(NamedTuple):
    """y = linear(x, w) with random weights w = mean + scale · noise.

    All that an estimator sees of a layer.
    """

    linear: Callable  # (inputs, kernel), linear in both
    square_linear: Callable  # (inputs, scale of the weights): the variance
    mean: Any  # of the weights, a tensor; None stands for 0
    scale: Any  # their standard deviations, up to sign, a tensor
    noise: noises.Noise
    dtype: str  # of the outputs
    channel_axes: tuple = ((-1,), (-1,))  # axes of inputs, of outputs that w has too

    def sample_kernel(self, seed):
        """One draw of `scale · noise`, a kernel."""
        noise = self.noise.sample(ops.shape(self.scale), self.scale.dtype, seed)
        return self.scale * noise

    def apply(self, inputs, kernel):
        """`linear`, computed in the dtype of the outputs."""
        # In half precision a large weight must not be infinite: times 0 it is NaN
        if keras.backend.standardize_dtype(kernel.dtype) != self.dtype:
            kernel = ops.saturate_cast(kernel, self.dtype)
        # Keras computes double precision in single where TensorFlow isn't its backend
        return ops.cast(self.linear(inputs, kernel), self.dtype)

    def add_mean(self, inputs, deviation):
        """`linear(inputs, mean) + deviation`, in the dtype of the outputs."""
        deviation = ops.cast(deviation, self.dtype)
        if self.mean is None:
            return deviation
        return self.apply(inputs, self.mean) + deviation

    def stddev(self, inputs):
        """Standard deviations of the outputs, in single precision at least."""
        variance = self.square_linear(inputs, self.scale)
        # Some convolutions subtract; + TINY: a finite gradient at 0
        return ops.sqrt(ops.maximum(variance, 0) + TINY)


class Estimator(families.Member):
    """Base of the estimators; a new one is a `__call__`."""

    family = "estimator"

    def check(self, noise):
        """Raise ValueError if weights with this noise can't be drawn so."""

    def __call__(self, layer, inputs, seed):
        """Draw the outputs of a layer.

        Args:
            layer: A `RandomLinear`.
            inputs: Tensor, (batch, …).
            seed: A `random.Stream`, the seeds of this call.

        Returns:
            Tensor, (batch, …), of the layer's dtype.
        """
        raise NotImplementedError

    def sampler(self, layer, inputs, repeats=1, shared_noise=True):
        """A function that draws independent outputs for each example.

        What all samples of an input share is computed here, once.

        Args:
            layer: As for a call.
            inputs: Tensor, (batch · repeats, …): a layer that follows another
                stochastic one has as many inputs for an example as there will be
                samples, sample by sample; the first one has `repeats = 1`.
            shared_noise: Whether sample k has the same noise for every example.

        Returns:
            A function of (seed, samples), a `random.Stream` and the number of
            samples, that returns a tensor, (batch · samples, …).
        """
        inputs = split(inputs, repeats)

        def draw(seed, samples):
            def draw_one(k):
                x = inputs[:, 0] if repeats == 1 else ops.take(inputs, k, axis=1)
                return self(layer, x, seed.of_sample(k))

            return merge(ops.moveaxis(ops.map(draw_one, ops.arange(samples)), 0, 1))

        return draw


@keras.saving.register_keras_serializable("keras_variance")
class MomentMatching(Estimator):
    """y = linear(x, mean) + √linear(x², scale²) · ε, ε ~ N(0, 1).

    The output's own mean and variance, exactly, with Gaussian noise drawn
    independently for every entry of the output. For non-Gaussian noise the
    shape of the distribution is an approximation by the central limit theorem
    ("fast dropout").

    Reference: Fast dropout training (Wang & Manning, ICML 2013).
    """

    def __call__(self, layer, inputs, seed):
        stddev = layer.stddev(inputs)
        normal = noises.Gaussian().sample(ops.shape(stddev), stddev.dtype, seed)
        return layer.add_mean(inputs, stddev * normal)

    def sampler(self, layer, inputs, repeats=1, shared_noise=True):
        stddev = split(layer.stddev(inputs), repeats)
        mean = None
        if layer.mean is not None:
            mean = split(layer.apply(inputs, layer.mean), repeats)

        def draw(seed, samples):
            batch, _, *rest = ops.shape(stddev)
            shape = (1 if shared_noise else batch, samples, *rest)
            normal = noises.Gaussian().sample(shape, stddev.dtype, seed)
            outputs = ops.cast(stddev * normal, layer.dtype)
            return merge(outputs if mean is None else outputs + mean)

        return draw


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
class WeightSampling(Estimator):
    """y = linear(x, mean + scale · ε): one draw of the weights for the batch.

    Reference: Weight Uncertainty in Neural Networks
    (https://arxiv.org/abs/1505.05424), section 3.
    """

    def __call__(self, layer, inputs, seed):
        kernel = layer.sample_kernel(seed)
        if layer.mean is not None:
            kernel = kernel + layer.mean
        return layer.apply(inputs, kernel)


@keras.saving.register_keras_serializable("keras_variance")
class Flipout(Estimator):
    """y = linear(x, mean) + r ∘ linear(s ∘ x, scale · ε).

    ε is one draw of the noise for the batch; the signs r and s are ±1, drawn
    for each example and channel. As the noise is symmetric, each example sees
    weights of the right distribution, uncorrelated between examples.

    Reference: Flipout (https://arxiv.org/abs/1803.04386), equation 4.
    """

    def __call__(self, layer, inputs, seed):
        kernel = layer.sample_kernel(seed)
        input_axes, output_axes = layer.channel_axes
        outputs = layer.apply(_flip(inputs, input_axes, seed), kernel)
        return layer.add_mean(inputs, _flip(outputs, output_axes, seed))

    def sampler(self, layer, inputs, repeats=1, shared_noise=True):
        # Where all examples of a sample share its kernel there is nothing to flip
        each = WeightSampling() if shared_noise else super()
        return each.sampler(layer, inputs, repeats)


def split(x, samples):
    """(batch · samples, …) to (batch, samples, …)."""
    rows, *rest = ops.shape(x)
    return ops.reshape(x, (rows // samples, samples, *rest))


def merge(x):
    """(batch, samples, …) to (batch · samples, …)."""
    batch, samples, *rest = ops.shape(x)
    return ops.reshape(x, (batch * samples, *rest))


def _flip(x, axes, seed):
    """`x` times ±1, drawn for each example and each index of some axes."""
    if not axes:
        return x
    sizes, shape = ops.shape(x), [1] * len(x.shape)
    for axis in (0, *axes):
        shape[axis] = sizes[axis]
    return x * noises.Bernoulli().sample(shape, x.dtype, seed)


MEMBERS = {
    "local_reparameterization": LocalReparameterization,
    "moment_matching": MomentMatching,
    "flipout": Flipout,
    "weight_sampling": WeightSampling,
}


def get(identifier: str | dict | Estimator) -> Estimator:
    """An `Estimator` from a name, a config or an `Estimator`."""
    return families.get(identifier, Estimator, MEMBERS)
