"""Losses of numbers whose distribution a model predicts, for `compile`."""

import math

import keras
from keras import ops

from keras_variance import checks
from keras_variance.likelihoods import Gaussian, Likelihood, StudentT
from keras_variance.types import DType

__all__ = ["ExpectedGaussianNLL", "GaussianNLL", "StudentTNLL"]


class NegativeLogLikelihood(keras.losses.Loss):
    """Base: −log p(y) in nats, summed over the last axis.

    Call arguments:
        y_true: Targets, (batch, …, d); d = 1 may be left out.
        y_pred: Locations and then log squared scales, (batch, …, 2d); with a fixed
            scale locations, (batch, …, d).

    Attributes:
        likelihood: What the outputs mean, for `likelihood="auto"`.
    """

    def __init__(
        self,
        likelihood: Likelihood,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: DType = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.likelihood = likelihood

    def call(self, y_true, y_pred):
        mean, log_square = self.likelihood.parameters(_outputs(y_pred))
        error = _targets(y_true, mean) - mean
        log_density = self.likelihood.log_density(error, log_square, ops)
        return -ops.sum(self.weight(log_square) * log_density, axis=-1)

    def weight(self, log_square):
        """Of each number's log density."""
        return 1.0

    def get_config(self):
        return {**super().get_config(), **self.likelihood.get_config()}


@keras.saving.register_keras_serializable("keras_variance")
class GaussianNLL(NegativeLogLikelihood):
    """The negative log-likelihood of a normal distribution, or β-NLL.

        loss = Σ ⌊σ^(2β)⌋ ½ (log 2π + s + (y − m)² e^(−s)),  σ² = e^s

    with m and s the halves of an output and ⌊·⌋ without a gradient: β = 0 is the
    likelihood; β = 1 has the gradient of the squared error in m. With β > 0 examples
    that fit badly keep their weight in training, and the loss is no likelihood: use it
    without a prior. A target that is NaN makes the loss NaN.

    Call arguments:
        y_true: Targets, (batch, …, d); d = 1 may be left out.
        y_pred: Means and then log variances, (batch, …, 2d), or with a fixed scale
            means, (batch, …, d).

    Args:
        beta: Number ≥ 0, β.
        scale: A fixed standard deviation, a number > 0, or None for outputs that say
            it.
        name, reduction, dtype: As for Keras's losses.

    Raises:
        ValueError: For numbers out of range and, when called, for an odd number of
            outputs or targets of another shape.

    Example:

    >>> loss = GaussianNLL()
    >>> round(float(loss([[1.0]], [[0.0, 0.0]])), 4)  # ½ log 2π + ½
    1.4189

    Reference: Seitzer et al., On the Pitfalls of Heteroscedastic Uncertainty Estimation
    with Probabilistic Neural Networks (https://arxiv.org/abs/2203.09168), equation 4.
    """

    def __init__(
        self,
        beta: float = 0.0,
        scale: float | None = None,
        name: str | None = "gaussian_nll",
        reduction: str | None = "sum_over_batch_size",
        dtype: DType = None,
    ):
        super().__init__(Gaussian(scale), name, reduction, dtype)
        self.beta = checks.number("beta", beta, minimum=0)

    def weight(self, log_square):
        if self.beta == 0:
            return 1.0
        return ops.stop_gradient(ops.exp(ops.multiply(self.beta, log_square)))

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable("keras_variance")
class StudentTNLL(NegativeLogLikelihood):
    """The negative log-likelihood of `likelihoods.StudentT`: large errors count less.

    Call arguments as for `GaussianNLL`, with locations and log squared scales.

    Args:
        df: Number > 0, the degrees of freedom.
        scale: A fixed scale, a number > 0, or None for outputs that say it.
        name, reduction, dtype: As for Keras's losses.

    Raises:
        ValueError: As `GaussianNLL`.

    Example:

    >>> loss = StudentTNLL(df=4)
    >>> round(float(loss([[1.0]], [[0.0, 0.0]])), 4)
    1.5387
    """

    def __init__(
        self,
        df: float,
        scale: float | None = None,
        name: str | None = "student_t_nll",
        reduction: str | None = "sum_over_batch_size",
        dtype: DType = None,
    ):
        super().__init__(StudentT(df, scale), name, reduction, dtype)


@keras.saving.register_keras_serializable("keras_variance")
class ExpectedGaussianNLL(keras.losses.Loss):
    """E[−log N(y; m, e^s)] of outputs m and s that are Gaussian, in closed form.

        loss = Σ ½ (log 2π + E[s] + ((y − E[m])² + Var[m]) e^(−E[s] + Var[s]/2))

    with m and s independent. As the loss of a model of moments it trains by the ELBO
    without a sample: deterministic variational inference.

    Call arguments:
        y_true: Targets, (batch, …, d); d = 1 may be left out.
        y_pred: E[m], E[s], Var[m] and Var[s] on the last axis, (batch, …, 4d), or with
            a fixed scale E[m] and Var[m], (batch, …, 2d).

    Args:
        scale: A fixed standard deviation, a number > 0, or None for outputs that say
            it.
        name, reduction, dtype: As for Keras's losses.

    Raises:
        ValueError: As `GaussianNLL`.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense, transforms
    >>> layer = VarianceDense(2, posterior="additive")
    >>> model = keras.Sequential([keras.Input((4,)), layer])
    >>> moments = transforms.propagate_moments(model, likelihood=None, statistics=True)
    >>> y = moments.output
    >>> y = keras.layers.Concatenate()([y["mean"], y["variance"]])
    >>> trained = keras.Model(moments.input, y)
    >>> trained.compile("sgd", ExpectedGaussianNLL())
    >>> history = trained.fit(np.ones((8, 4)), np.ones(8), verbose=0)

    Reference: Wu et al., Deterministic Variational Inference for Robust Bayesian Neural
    Networks (https://arxiv.org/abs/1810.03958), equation 12.
    """

    def __init__(
        self,
        scale: float | None = None,
        name: str | None = "expected_gaussian_nll",
        reduction: str | None = "sum_over_batch_size",
        dtype: DType = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.likelihood = Gaussian(scale)

    def call(self, y_true, y_pred):
        means, variances = _halves(_outputs(y_pred))
        mean, log_square = self.likelihood.parameters(means)
        variance, spread = variances, 0.0
        if self.likelihood.scale is None:
            variance, spread = _halves(variances)
        square = ops.square(_targets(y_true, mean) - mean) + variance
        square = square * ops.exp(spread / 2 - log_square)
        return ops.sum(math.log(2 * math.pi) + log_square + square, axis=-1) / 2

    def get_config(self):
        return {**super().get_config(), **self.likelihood.get_config()}


def _outputs(y_pred):
    y_pred = ops.convert_to_tensor(y_pred)
    expected = "of shape (batch, …, outputs)"
    checks.require(len(y_pred.shape) > 1, "y_pred", expected, y_pred)
    return y_pred


def _halves(x):
    half, odd = divmod(x.shape[-1], 2)
    checks.require(not odd, "y_pred", "means and then variances", x)
    return x[..., :half], x[..., half:]


def _targets(y, mean):
    """Targets of the shape of their means."""
    y, shape = ops.convert_to_tensor(y, mean.dtype), tuple(mean.shape)
    if shape[-1] == 1 and len(y.shape) == len(shape) - 1:
        y = ops.expand_dims(y, -1)
    fits = len(y.shape) == len(shape) and all(
        None in pair or pair[0] == pair[1] for pair in zip(y.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"Argument `y_true` must have shape {shape}. "
            f"Received: y_true.shape={tuple(y.shape)}"
        )
    return y
