"""Likelihoods of classes: their parameters are probabilities."""

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_variance import checks
from keras_variance.likelihoods.base import Likelihood, check_labels, numbers

TINY = 1e-30


class Classification(Likelihood):
    """Base of the likelihoods of classes.

    Of one-hot labels y with probabilities p, Var[y | w] = p (1 − p), and over weights

        Var[y] = E[p] (1 − E[p]) = E[p (1 − p)] + Var[p]    (aleatoric + epistemic)

    Args:
        from_logits: Whether outputs are logits, not probabilities.

    Reference: Kwon et al., Uncertainty Quantification Using Bayesian Neural Networks in
    Classification (2020), equation 4 (variances).
    """

    activation: Callable  # what turns logits into probabilities
    linear = True
    measures = ("accuracy", "nll", "ece", "brier")

    def __init__(self, from_logits: bool = False):
        self.from_logits = checks.flag("from_logits", from_logits)

    @property
    def link(self):
        return self.activation if self.from_logits else None

    def entropy(self, p):
        """Entropy in nats of probabilities: a tensor (batch, …)."""
        raise NotImplementedError

    def expected_entropy(self, mean, variance):
        """E[H(p)] of random probabilities, to second order: a tensor (batch, …)."""
        raise NotImplementedError

    def statistics(self, x):
        """As `Likelihood`. The expected entropy is exact where `x.entropy` gives it."""
        if x.entropy is not None:
            entropy = x.entropy()
        elif x.variance is None:
            entropy = self.entropy(x.mean)
        else:
            entropy = self.expected_entropy(x.mean, x.variance)
        return {**super().statistics(x), "expected_entropy": entropy}

    def uncertainties(self, statistics):
        mean, variance = statistics["mean"], statistics["variance"]
        entropy = self.entropy(mean)
        information = entropy - statistics["expected_entropy"]
        return {
            "entropy": entropy,
            "mutual_information": ops.maximum(information, 0),
            "aleatoric": ops.maximum(mean * (1 - mean) - variance, 0),
        }

    def get_config(self):
        return {"from_logits": self.from_logits}


@keras.saving.register_keras_serializable("keras_variance.likelihoods")
class Categorical(Classification):
    """One of n classes, along the last axis.

    Labels are integers, (batch, …) or (batch, …, 1), or one-hot, (batch, …, n).

    Example:

    >>> likelihood = Categorical()
    >>> likelihood.log_likelihood([0, 1], np.array([[1.0, 0.0], [0.5, 0.5]]))
    array([ 0.        , -0.69314718])
    """

    activation = staticmethod(keras.activations.softmax)

    def check_outputs(self, shape):
        if shape[-1] == 1:
            raise ValueError(
                "A categorical output must have two classes or more on its last axis; "
                "one probability is 'bernoulli'. "
                f"Received: likelihood={self!r}, output.shape={shape}"
            )

    def entropy(self, p):
        return -ops.sum(p * ops.log(ops.maximum(p, TINY)), axis=-1)

    def expected_entropy(self, mean, variance):
        ratio = variance / ops.maximum(mean, TINY)
        return self.entropy(mean) - ops.sum(ratio, axis=-1) / 2

    def log_likelihood(self, y, p):
        y, p = self._one_hot(y, p), np.asarray(p)
        return np.sum(y * np.log(np.maximum(p, TINY)), axis=-1)

    def accuracy(self, y, p):
        labels, p = self.as_classes(y, p)
        return _share(p.argmax(axis=-1) == labels, p)

    def as_classes(self, y, p):
        labels = self._one_hot(y, p).argmax(axis=-1)
        return labels.ravel(), np.reshape(p, (-1, np.shape(p)[-1]))

    def _one_hot(self, y, p):
        *shape, classes = np.shape(p)
        y = numbers(y)
        if y.shape == (*shape, classes) and classes > 1:
            off = (y < 0) | (np.abs(y.sum(axis=-1, keepdims=True) - 1) > 1e-3)
            check_labels(not off.any(), y, "one-hot: not negative, with a sum of 1")
            return y
        fits = y.shape in ((*shape,), (*shape, 1))
        check_labels(
            fits, y, f"integers of shape {(*shape,)}, or one-hot, {(*shape, classes)}"
        )
        integers = (y == np.floor(y)) & (y >= 0) & (y < classes)
        check_labels(integers.all(), y, f"integers from 0 to {classes - 1}")
        return np.eye(classes)[y.reshape(shape).astype("int64")]


# A noise of the same name is registered with the package alone
@keras.saving.register_keras_serializable("keras_variance.likelihoods")
class Bernoulli(Classification):
    """Independent binary variables, one for each entry of the last axis.

    Labels are 0 or 1, (batch, …, n); n = 1 may be left out.

    Example:

    >>> likelihood = Bernoulli()
    >>> likelihood.accuracy([0, 1, 1], np.array([[0.1], [0.9], [0.2]]))
    0.6666666666666666
    """

    activation = staticmethod(keras.activations.sigmoid)

    def entropy(self, p):
        return _sum_last(_binary_entropy(p))

    def expected_entropy(self, mean, variance):
        ratio = variance / ops.maximum(mean, TINY)
        ratio = ratio + variance / ops.maximum(1 - mean, TINY)
        return _sum_last(_binary_entropy(mean) - ratio / 2)

    def log_likelihood(self, y, p):
        y, p = self._binary(y, p), np.asarray(p, "float64")
        each = y * np.log(np.maximum(p, TINY))
        each = each + (1 - y) * np.log(np.maximum(1 - p, TINY))
        return each.sum(axis=-1) if each.ndim > 1 else each

    def accuracy(self, y, p):
        return _share((np.asarray(p) > 0.5) == (self._binary(y, p) > 0.5), p)

    def as_classes(self, y, p):
        labels = (self._binary(y, p) > 0.5).astype("int64").ravel()
        p = np.ravel(p)
        return labels, np.stack([1 - p, p], axis=-1)

    def _binary(self, y, p):
        y, shape = numbers(y), np.shape(p)
        fits = y.shape == shape or (shape[-1:] == (1,) and y.shape == shape[:-1])
        check_labels(fits, y, f"numbers of shape {shape}")
        check_labels(((y >= 0) & (y <= 1)).all(), y, "0 or 1")
        return y.reshape(shape)


def _binary_entropy(p):
    return -(
        p * ops.log(ops.maximum(p, TINY)) + (1 - p) * ops.log(ops.maximum(1 - p, TINY))
    )


def _sum_last(x):
    return ops.sum(x, axis=-1) if len(x.shape) > 1 else x


def _share(right, p):
    """The share of labels that are right; NaN if a probability is."""
    return math.nan if np.isnan(p).any() else float(np.mean(right))
