"""Likelihoods of numbers: their outputs are locations and scales."""

import math

import keras
import numpy as np
from keras import ops

from keras_variance import checks
from keras_variance.likelihoods.base import Likelihood, check_labels, numbers


class Regression(Likelihood):
    """Base of the likelihoods of d independent numbers, given x and w.

    Outputs are (batch, …, 2d): d locations m, then d log squared scales s, on the last
    axis. With a `scale` they are (batch, …, d): locations. Labels are (batch, …, d);
    d = 1 may be left out.

    Over weights w the predictive distribution is a mixture, with

        E[y] = E[m]
        Var[y] = E[Var[y | w]] + Var[m]    (aleatoric + epistemic)

    It has no entropy in closed form, and is given none.

    Args:
        scale: Number > 0, the scale of y around its location, in the units of y. None
            if the outputs say it.

    Raises:
        ValueError: For another scale, and for an odd number of outputs without one.

    Reference: Kendall & Gal, What Uncertainties Do We Need in Bayesian Deep Learning
    for Computer Vision? (https://arxiv.org/abs/1703.04977), equation 9.
    """

    measures = ("rmse", "nll")

    def __init__(self, scale: float | None = None):
        if scale is not None:
            scale = checks.number("scale", scale, above=0)
        self.scale = scale

    @property
    def variance_ratio(self):
        """Var[y | w] / e^s."""
        raise NotImplementedError

    def log_density(self, error, log_square, numpy=np):
        """log p(y | w) of each number, in nats.

        Args:
            error: y − m.
            log_square: s.
            numpy: The module of its functions: NumPy, or `keras.ops`.
        """
        raise NotImplementedError

    def check_outputs(self, shape):
        size = shape[-1] if len(shape) > 1 else 1
        fits = self.scale is not None or (size is not None and size % 2 == 0)
        expected = (
            f"even in number on the last axis for {self!r}, locations and then log "
            "squared scales; for locations alone give it a `scale`"
        )
        if not fits:
            raise ValueError(
                f"Outputs must be {expected}. Received: output.shape={tuple(shape)}"
            )

    def parameters(self, p):
        """Locations m and log squared scales s, (batch, …, d): of outputs."""
        if self.scale is not None:
            return p, 2 * math.log(self.scale)
        self.check_outputs(p.shape)
        return _halves(p)

    def location(self, p):
        """E[y | w], m: of outputs."""
        return self.parameters(p)[0]

    def statistics(self, x):
        mean, log_square = self.parameters(x.mean)
        variance = x.variance
        if variance is not None and self.scale is None:
            variance, of_log_square = _halves(variance)
            log_square = log_square + of_log_square / 2  # E[e^s] of Gaussian s
        square = ops.exp(ops.zeros_like(mean) + log_square)
        aleatoric = self.variance_ratio * square
        return {"mean": mean, "variance": variance, "aleatoric": aleatoric}

    def uncertainties(self, statistics):
        return {"aleatoric": statistics["aleatoric"]}

    def matched(self, statistics):
        """As `Likelihood`; a fixed scale stays."""
        mean = statistics["mean"]
        if self.scale is not None:
            return mean
        total = statistics["variance"] + statistics["aleatoric"]
        square = ops.log(total / self.variance_ratio)
        return ops.concatenate([mean, square], axis=-1)

    def log_likelihood(self, y, p):
        mean, log_square = self.parameters(np.asarray(p, "float64"))
        return _sum_last(self.log_density(_targets(y, mean) - mean, log_square))

    def log_predictive(self, y, prediction):
        mean = np.asarray(prediction.mean, "float64")
        log_square = np.log(prediction.total_variance / self.variance_ratio)
        return _sum_last(self.log_density(_targets(y, mean) - mean, log_square))

    def rmse(self, y, mean):
        mean = np.asarray(mean, "float64")
        return float(np.sqrt(np.mean(np.square(_targets(y, mean) - mean))))

    def get_config(self):
        return {"scale": self.scale}


# A noise of the same name is registered with the package alone
@keras.saving.register_keras_serializable("keras_variance.likelihoods")
class Gaussian(Regression):
    """Normally distributed numbers, y ~ N(m, e^s).

        log p(y) = −½ (log 2π + s + (y − m)² e^(−s))

    Outputs, labels and arguments as for `Regression`: the mean and the log variance,
    or the mean with a fixed standard deviation. Of weights that make (m, s) Gaussian,
    as `propagate_moments` takes them, E[Var[y | w]] = exp(E[s] + Var[s] / 2).

    Example:

    >>> likelihood = Gaussian()
    >>> likelihood.log_likelihood([1.0], np.array([[0.0, 0.0]]))
    array([-1.41893853])
    >>> Gaussian(scale=2.0).rmse([1.0, 5.0], np.array([[0.0], [4.0]]))
    1.0
    """

    variance_ratio = 1.0

    def log_density(self, error, log_square, numpy=np):
        square = numpy.square(error) * numpy.exp(-log_square)
        return -(math.log(2 * math.pi) + log_square + square) / 2


# A prior of the same name is registered with the package alone
@keras.saving.register_keras_serializable("keras_variance.likelihoods")
class StudentT(Regression):
    """Numbers with heavy tails: y = m + e^(s/2) t, t of Student's distribution.

        log p(y) = −(ν + 1)/2 log(1 + (y − m)² e^(−s) / ν) − s/2 + constant
        Var[y | w] = ν / (ν − 2) e^s

    Outputs and labels as for `Regression`: the location and the log squared scale, or
    the location with a fixed scale.

    Args:
        df: Number > 0, the degrees of freedom ν. Its variance exists if ν > 2.
        scale: As for `Regression`.

    Raises:
        ValueError: As `Regression`, and where a variance is asked for with ν ≤ 2.

    Example:

    >>> likelihood = StudentT(df=4)
    >>> likelihood.log_likelihood([1.0], np.array([[0.0, 0.0]]))
    array([-1.53868813])
    """

    def __init__(self, df: float, scale: float | None = None):
        super().__init__(scale)
        self.df = checks.number("df", df, above=0)

    @property
    def variance_ratio(self):
        checks.require(self.df > 2, "df", "above 2 for a variance", self.df)
        return self.df / (self.df - 2)

    def log_density(self, error, log_square, numpy=np):
        df = self.df
        constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2)
        constant = constant - math.log(df * math.pi) / 2
        square = numpy.square(error) * numpy.exp(-log_square)
        return constant - log_square / 2 - (df + 1) / 2 * numpy.log1p(square / df)

    def get_config(self):
        return {"df": self.df, **super().get_config()}


def _halves(x):
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


def _targets(y, mean):
    """Labels as numbers of the shape of their means."""
    y, shape = numbers(y), mean.shape
    fits = y.shape == shape or (shape[-1:] == (1,) and y.shape == shape[:-1])
    check_labels(fits, y, f"numbers of shape {shape}")
    check_labels(np.isfinite(y).all(), y, "finite numbers")
    return y.reshape(shape)


def _sum_last(x):
    return x.sum(axis=-1) if x.ndim > 1 else x
