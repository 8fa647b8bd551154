"""Pruning: weights that do not matter are set to 0, for good."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from keras_variance import checks
from keras_variance.distributions import posteriors
from keras_variance.layers.paths import find_variance_layers
from keras_variance.layers.weight import RandomWeight
from keras_variance.types import AnyLayers

GRANULARITIES = ("weight", "unit")
LOG_ALPHA_THRESHOLD = 3.0


class LayerSparsity(NamedTuple):
    """How many weights of a layer are 0."""

    name: str
    weights: int
    zeros: int

    @property
    def sparsity(self) -> float:
        return self.zeros / self.weights


class SparsityReport(NamedTuple):
    """The sparsity of a model's variance layers; prints as a table."""

    layers: tuple[LayerSparsity, ...]

    @property
    def total(self) -> LayerSparsity:
        """All layers together."""
        weights = sum(layer.weights for layer in self.layers)
        return LayerSparsity("all", weights, sum(layer.zeros for layer in self.layers))

    def __str__(self):
        rows = (*self.layers, self.total)
        width = max(len(row.name) for row in rows)
        lines = [f"{'layer':<{width}}{'weights':>12}{'zeros':>12}   sparsity"]
        for row in rows:
            lines.append(
                f"{row.name:<{width}}{row.weights:>12,}{row.zeros:>12,}"
                f"{100 * row.sparsity:>9.2f} %"
            )
        return "\n".join(lines)


class Criterion(NamedTuple):
    """What tells the weights that matter."""

    value: Callable  # (RandomWeight) → array that broadcasts to it
    sign: int  # 1 if small values are pruned, -1 if great ones


def _scale(weight):
    return np.abs(_array(weight.scale))


def _snr(weight):
    mean, scale = np.abs(_array(weight.mean)), np.abs(_array(weight.scale))
    return mean / np.maximum(scale, posteriors.TINY)


def _log_alpha(weight):
    return _array(weight.log_alpha)


CRITERIA = {
    "scale": Criterion(_scale, 1),
    "snr": Criterion(_snr, 1),
    "log_alpha": Criterion(_log_alpha, -1),
}


def prune(
    model: keras.Model,
    sparsity: float | None = None,
    threshold: float | None = None,
    by: str = "scale",
    granularity: str = "weight",
    layers: AnyLayers = None,
) -> SparsityReport:
    """Set the least important weights of variance layers to 0, in place.

    They stay 0 in further training, saved and reloaded: layers get a mask. Mean
    and variance of a pruned weight are 0; the bias is left. Another model that has
    these layers, and has been trained or has predicted before, does not know of the
    masks until you compile it again.

    Args:
        model: A built Keras model with variance layers.
        sparsity: From 0 to below 1: the share of weights (or units) that are 0
            afterwards, in each layer, and in each random weight of a
            `VarianceWrapper`; those that are pruned already count.
        threshold: Weights below it are pruned, above it for `"log_alpha"`.
        by: `"scale"`, the weight's standard deviation; `"snr"`, |mean| / standard
            deviation; `"log_alpha"`, log(variance / mean²), with 3 as threshold
            if neither it nor `sparsity` is given.
        granularity: `"weight"`, or `"unit"` for all weights of output units, by
            the average of the criterion over them.
        layers: Variance layers of the model, their paths, as `"encoder/dense"`, or
            names that only one has. Defaults to all.

    Returns:
        A `SparsityReport` of all variance layers.

    Raises:
        ValueError: For a sparsity outside of [0, 1), both or neither of sparsity
            and threshold, layers that are not the model's, a criterion that tells
            nothing of a layer's weights, or weights that are NaN. Nothing is pruned
            then.

    Example:

    >>> import keras_variance as kv
    >>> layer = kv.VarianceDense(50, name="dense")
    >>> model = keras.Sequential([keras.Input((20,)), layer])
    >>> print(prune(model, sparsity=0.9))
    layer     weights       zeros   sparsity
    dense       1,000         900    90.00 %
    all         1,000         900    90.00 %

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764), figure 5
    (scale); Graves, Practical Variational Inference for Neural Networks (2011),
    section 5 (SNR); Molchanov et al., Variational Dropout Sparsifies Deep Neural
    Networks (https://arxiv.org/abs/1701.05369), section 4.4 (log α).
    """
    chosen = find_variance_layers(model, layers, built=True)
    check_options(by, granularity)
    if by == "log_alpha" and sparsity is None and threshold is None:
        threshold = LOG_ALPHA_THRESHOLD
    if (sparsity is None) == (threshold is None):
        raise ValueError(
            "Expected one of the arguments `sparsity` and `threshold`. "
            f"Received: sparsity={sparsity}, threshold={threshold}"
        )
    if sparsity is not None:
        sparsity = check_sparsity("sparsity", sparsity)
    else:
        threshold = checks.number("threshold", threshold)
    weights = [weight for layer in chosen for weight in layer.random_weights]
    for weight in weights:
        _check_criterion(weight, by, granularity, sparsity)
    kept = [_kept(each, sparsity, threshold, by, granularity) for each in weights]
    constants = keras.backend.backend() == "jax"
    retraced = constants or not all(layer.pruned for layer in chosen)
    for weight, mask in zip(weights, kept, strict=True):
        weight.keep(mask)
    if retraced:
        retrace(model)
    return sparsity_report(model)


def sparsity(model: keras.Model) -> float:
    """The share of weights of a model's variance layers that are 0.

    Args, Raises: as `sparsity_report`.
    """
    return sparsity_report(model).total.sparsity


def sparsity_report(model: keras.Model) -> SparsityReport:
    """The sparsity of each variance layer of a model.

    Args:
        model: A built Keras model with variance layers.

    Raises:
        ValueError: If it is none.
    """
    layers = find_variance_layers(model, built=True)
    return SparsityReport(tuple(map(_layer_sparsity, layers)))


def check_sparsity(name, value):
    """A sparsity, in [0, 1)."""
    return checks.number(name, value, minimum=0, below=1)


def check_options(by="scale", granularity="weight", layers=None):
    """Those of the arguments of `prune` that do not depend on the model."""
    checks.one_of("by", by, CRITERIA)
    checks.one_of("granularity", granularity, GRANULARITIES)


def retrace(model):
    """Have a compiled model trace its functions again: its layers got masks, or on
    JAX other ones, which are constants there."""
    if model.compiled:
        model.make_train_function(force=True)
    if model.compiled or model.predict_function is not None:
        model.make_test_function(force=True)
        model.make_predict_function(force=True)


def _layer_sparsity(layer):
    zeros = [_zeros(weight) for weight in layer.random_weights]
    weights = sum(each.size for each in zeros)
    return LayerSparsity(layer.name, weights, sum(int(each.sum()) for each in zeros))


def _zeros(weight):
    zeros = _array(weight.scale) == 0
    return zeros if weight.mean is None else zeros & (_array(weight.mean) == 0)


def _array(tensor):
    return keras.ops.convert_to_numpy(tensor).astype("float64")


def _check_criterion(weight, by, granularity, sparsity):
    if by == "scale":
        return
    layer = weight.layer
    if isinstance(layer.posterior, posteriors.ZeroMean):
        raise ValueError(
            f"Layer '{layer.name}' has weights of mean zero: all have a "
            "signal-to-noise ratio of 0 and an infinite log α, yet they matter. "
            f"Prune by 'scale'. Received: by={by!r}"
        )
    if sparsity is None:
        return
    shape = layer.posterior.phi_shape(weight.shape, weight.unit_axes)
    groups = weight.shape
    if granularity == "unit":
        groups = [weight.shape[axis] for axis in weight.unit_axes]
    if np.prod(shape) < np.prod(groups):
        raise ValueError(
            f"Layer '{layer.name}' has one α for several {granularity}s, which have "
            "no order then: give a threshold, or prune by 'scale'. "
            f"Received: by={by!r}, posterior={layer.posterior!r}"
        )


def _kept(weight: RandomWeight, sparsity, threshold, by, granularity):
    """The mask of the entries to keep."""
    value, sign = CRITERIA[by]
    layer, shape = weight.layer, weight.shape
    values = value(weight)
    if np.isnan(values).any():
        raise ValueError(
            f"Layer '{layer.name}' has weights that are NaN: whether they matter is "
            f"not known. Received: by={by!r}, layer={layer}"
        )
    values = sign * np.broadcast_to(values, shape)
    if granularity == "unit":
        axes = [axis % len(shape) for axis in weight.unit_axes]
        others = tuple(axis for axis in range(len(shape)) if axis not in axes)
        values = values.mean(axis=others, keepdims=True)
    if sparsity is None:
        return np.broadcast_to(values >= sign * threshold, shape)
    if weight.mask is not None:
        alive = keras.ops.convert_to_numpy(weight.mask)
        alive = alive if granularity == "weight" else alive.any(others, keepdims=True)
        values = np.where(alive, values, -np.inf)
    count = round(sparsity * values.size)
    kept = np.ones(values.size, bool)
    kept[np.argsort(values, axis=None, kind="stable")[:count]] = False
    return np.broadcast_to(kept.reshape(values.shape), shape)
