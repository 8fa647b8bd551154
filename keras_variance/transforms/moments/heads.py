"""Rules of the softmax: how Gaussian logits become class probabilities."""

import math

import keras
import numpy as np
from keras import ops

from keras_variance import checks, families
from keras_variance.distributions.posteriors import TINY
from keras_variance.likelihoods import Categorical
from keras_variance.transforms.moments.rules import Moments, UnsupportedError

__all__ = [
    "MEMBERS",
    "Head",
    "MeanField",
    "QuasiMonteCarlo",
    "get",
]

# Of the largest variance, added to all: a Cholesky factor in single precision
JITTER = 1e-5
# Classes up to which a Cholesky factor is written out, a few operators for each
UNROLLED = 32


class Head(families.Member):
    """Base of the heads; a new one is a `__call__`."""

    family = "head"

    def __call__(self, operation, logits):
        """The rule: `Moments` of the probabilities, with their expected entropy."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_variance")
class QuasiMonteCarlo(Head):
    """Averages of softmax(m + L zₖ) over fixed points zₖ, with L Lᵀ the covariance.

    The points are those of a Richtmyer lattice, turned into normal ones, with their
    negatives, and whitened: their mean is 0 and, where there are more than two for
    each class, their covariance the identity, exactly.

    Logits that come from a dense layer keep their covariance. With many classes
    (more than half of the points) it is not computed, which would cost of the order
    of classes² for each input of the layer: the points are then fewer random
    ones, fixed, of the layer's inputs; the variance of each logit is exact, the
    correlations are those of the points.

    Up to 32 classes, and with 64 points for any number of them, it consists of
    operators that ONNX and LiteRT have.

    Args:
        points: Integer ≥ 4, a multiple of 4: the number of points.

    Reference: Niederreiter, Random Number Generation and Quasi-Monte Carlo Methods
    (1992), chapter 4.
    """

    def __init__(self, points: int = 64):
        self.points = checks.integer("points", points, minimum=4, multiple=4)

    def __call__(self, operation, logits):
        _check_axis(operation, logits)
        classes = logits.mean.shape[-1]
        if logits.covariance is not None and classes > self.points // 2:
            axis, deviations = -1, self._of_inputs(logits)
        else:
            axis, deviations = -2, self._of_logits(logits)
        points = -3 - axis  # the axis of the points
        deviations = ops.concatenate([deviations, -deviations], axis=points)
        samples = _softmax(ops.expand_dims(logits.mean, points) + deviations, axis)
        mean = ops.mean(samples, axis=points, keepdims=True)
        variance = ops.mean(ops.square(samples - mean), axis=points)

        def entropy():
            each = Categorical().entropy(ops.swapaxes(samples, axis, -1))
            return ops.mean(each, axis=-1)

        return Moments(ops.squeeze(mean, points), variance, entropy=entropy)

    def _of_logits(self, logits):
        """Deviations of the logits: (…, classes, points / 2)."""
        half = normal_points(self.points // 2, logits.mean.shape[-1]).T
        half = ops.convert_to_tensor(half, logits.mean.dtype)
        if logits.covariance is None:
            return ops.sqrt(logits.variance + TINY)[..., None] * half
        return ops.matmul(_cholesky(logits.covariance), half)

    def _of_inputs(self, logits):
        """Those of random points of what the logits are computed from: (…, points / 5,
        classes)."""
        inputs = logits.covariance.kernel.shape[0]
        half = np.random.default_rng(0).normal(size=(max(self.points // 5, 1), inputs))
        half = ops.convert_to_tensor(half, logits.mean.dtype)
        return logits.covariance.deviations(half)


@keras.saving.register_keras_serializable("keras_variance")
class MeanField(Head):
    """softmax(m / √(1 + πv/8)), the logits' covariance ignored.

    The variance of the probabilities p is that of their tangent plane,
    pᵢ² (vᵢ − 2 pᵢvᵢ + Σ pⱼ² vⱼ).

    Reference: MacKay, The evidence framework applied to classification networks
    (Neural Computation 4, 1992); Lu et al., Mean-field approximation to
    Gaussian-softmax integral (https://arxiv.org/abs/2006.07584), "mean-field 0".
    """

    def __call__(self, operation, logits):
        _check_axis(operation, logits)
        v = logits.variance
        p = ops.softmax(logits.mean / ops.sqrt(1 + math.pi / 8 * v))
        common = ops.sum(ops.square(p) * v, axis=-1, keepdims=True)
        return Moments(p, ops.square(p) * (v - 2 * p * v + common))


MEMBERS = {"quasi_monte_carlo": QuasiMonteCarlo, "mean_field": MeanField}


def get(identifier: str | dict | Head) -> Head:
    """A `Head` from a name, a config or a `Head`."""
    return families.get(identifier, Head, MEMBERS)


def normal_points(number, dimensions):
    """Points that, with their negatives, stand for a standard normal distribution.

    Returns:
        Array, (number, dimensions).
    """
    from statistics import NormalDist

    steps = (np.arange(number)[:, None] + 0.5) * np.sqrt(_primes(dimensions))
    points = np.vectorize(NormalDist().inv_cdf)(steps % 1)
    if number > dimensions:
        covariance = points.T @ points / number
        points = points @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    return points


def _primes(number):
    """The first prime numbers."""
    primes = []
    candidate = 2
    while len(primes) < number:
        if all(candidate % prime for prime in primes):
            primes.append(candidate)
        candidate += 1
    return np.array(primes)


def _softmax(logits, axis):
    """`ops.softmax` would transpose for any axis but the last, at half the speed."""
    # Which cancels, and so does its gradient: XLA may compute the logits of the two
    # in other orders, and finds none that equals the greatest
    greatest = ops.stop_gradient(ops.max(logits, axis=axis, keepdims=True))
    exponentials = ops.exp(logits - greatest)
    return exponentials / ops.sum(exponentials, axis=axis, keepdims=True)


def _cholesky(covariance):
    matrix, variance = covariance.matrix(), covariance.variance
    size = matrix.shape[-1]
    greatest = ops.stop_gradient(ops.max(variance, axis=-1))
    jitter = JITTER * greatest[..., None, None] + TINY
    matrix = matrix + jitter * ops.eye(size, dtype=matrix.dtype)
    # From JAX there is no export to these, and XLA takes long to compile so much code
    if size > UNROLLED or keras.backend.backend() == "jax":
        return ops.cholesky(matrix)
    return unrolled_cholesky(matrix, jitter)


def unrolled_cholesky(matrix, smallest):
    """L with L Lᵀ = A, column by column, of operators that ONNX and LiteRT have.

    They have no Cholesky factor.

    Args:
        matrix: A, (…, n, n).
        smallest: Eigenvalue of A, (…, 1, 1): no pivot is below it, but for rounding.
    """
    size = matrix.shape[-1]

    def examples_last(x):
        return ops.transpose(ops.reshape(x, (-1, *x.shape[-2:])), (1, 2, 0))

    rest, smallest = examples_last(matrix), examples_last(smallest)[0]
    columns = []
    for k in range(size):
        column = rest[0] / ops.sqrt(ops.maximum(rest[0, :1], smallest))
        columns.append(ops.pad(column, [(k, 0), (0, 0)]))
        rest = rest[1:, 1:] - column[1:, None] * column[None, 1:]
    factor = ops.transpose(ops.stack(columns, axis=1), (2, 0, 1))
    return ops.reshape(factor, ops.shape(matrix))


def _check_axis(operation, logits):
    if getattr(operation, "axis", -1) not in (-1, len(logits.mean.shape) - 1):
        raise UnsupportedError(
            f"Layer '{operation.name}' must be over the last axis, for moments. "
            f"Received: axis={operation.axis}"
        )
