"""Likelihoods: what the outputs of a model mean.

A likelihood alone knows how outputs become probabilities, how likely labels are, and
what accuracy and entropy are. With outputs of shape (batch, …, n), n classes or n
binary variables:

| likelihood  | probabilities p     | log p(y)                   | entropy    |
|-------------|---------------------|----------------------------|------------|
| categorical | softmax, last axis  | log p_y                    | −Σ p log p |
| bernoulli   | sigmoid, each entry | Σ y log p + (1−y) log(1−p) | Σ H(p)     |

Entropies and log-likelihoods are in nats, of shape (batch, …).
"""

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_variance import checks, families

__all__ = [
    "MEMBERS",
    "Bernoulli",
    "Categorical",
    "Likelihood",
    "get",
]

TINY = 1e-30


class Likelihood(families.Member):
    """Base of the likelihoods.

    Args:
        from_logits: Whether outputs are logits, not probabilities.
    """

    family = "likelihood"
    link: Callable  # the activation that turns logits into probabilities

    def __init__(self, from_logits: bool = False):
        self.from_logits = checks.flag("from_logits", from_logits)

    def predictions(self, outputs):
        """Probabilities, of outputs: tensors (batch, …, n)."""
        return self.link(outputs) if self.from_logits else outputs

    def entropy(self, p):
        """Entropy in nats of probabilities: a tensor (batch, …)."""
        raise NotImplementedError

    def expected_entropy(self, mean, variance):
        """E[H(p)] of random probabilities, to second order: a tensor (batch, …)."""
        raise NotImplementedError

    def log_likelihood(self, y, p):
        """log p(y) in nats: an array (batch, …).

        Args:
            y: Labels, an array.
            p: Probabilities, an array (batch, …, n).

        Raises:
            ValueError: For labels of another shape, out of range, or NaN.
        """
        raise NotImplementedError

    def accuracy(self, y, p):
        """Share of labels that are the most probable ones: a float. As above."""
        raise NotImplementedError

    def as_classes(self, y, p):
        """Integer labels (m,) and class probabilities (m, classes): a row for each
        label. As above."""
        raise NotImplementedError

    def get_config(self):
        return {"from_logits": self.from_logits}


@keras.saving.register_keras_serializable("keras_variance.likelihoods")
class Categorical(Likelihood):
    """One of n classes, along the last axis.

    Labels are integers, (batch, …) or (batch, …, 1), or one-hot, (batch, …, n).

    Example:

    >>> likelihood = Categorical()
    >>> likelihood.log_likelihood([0, 1], np.array([[1.0, 0.0], [0.5, 0.5]]))
    array([ 0.        , -0.69314718])
    """

    link = staticmethod(keras.activations.softmax)

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
        y = _numbers(y)
        if y.shape == (*shape, classes) and classes > 1:
            off = (y < 0) | (np.abs(y.sum(axis=-1, keepdims=True) - 1) > 1e-3)
            _check(not off.any(), y, "one-hot: not negative, with a sum of 1")
            return y
        fits = y.shape in ((*shape,), (*shape, 1))
        _check(
            fits, y, f"integers of shape {(*shape,)}, or one-hot, {(*shape, classes)}"
        )
        integers = (y == np.floor(y)) & (y >= 0) & (y < classes)
        _check(integers.all(), y, f"integers from 0 to {classes - 1}")
        return np.eye(classes)[y.reshape(shape).astype("int64")]


# A noise of the same name is registered with the package alone
@keras.saving.register_keras_serializable("keras_variance.likelihoods")
class Bernoulli(Likelihood):
    """Independent binary variables, one for each entry of the last axis.

    Labels are 0 or 1, (batch, …, n); n = 1 may be left out.

    Example:

    >>> likelihood = Bernoulli()
    >>> likelihood.accuracy([0, 1, 1], np.array([[0.1], [0.9], [0.2]]))
    0.6666666666666666
    """

    link = staticmethod(keras.activations.sigmoid)

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
        y, shape = _numbers(y), np.shape(p)
        fits = y.shape == shape or (shape[-1:] == (1,) and y.shape == shape[:-1])
        _check(fits, y, f"numbers of shape {shape}")
        _check(((y >= 0) & (y <= 1)).all(), y, "0 or 1")
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


def _numbers(y):
    y = np.asarray(ops.convert_to_numpy(y) if ops.is_tensor(y) else y)
    numeric = np.issubdtype(y.dtype, np.number) or y.dtype == bool
    _check(numeric and not np.isnan(y).any(), y, "numbers, not NaN")
    return y


def _check(fits, y, expected):
    if not fits:
        values = np.array2string(y.ravel(), threshold=6, edgeitems=3)
        raise ValueError(
            f"Labels must be {expected}. Received: y of shape {y.shape}, y={values}"
        )


MEMBERS = {"categorical": Categorical, "bernoulli": Bernoulli}


def get(identifier):
    """A `Likelihood` from a name, a config or a `Likelihood`."""
    return families.get(identifier, Likelihood, MEMBERS)
