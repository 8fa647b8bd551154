"""`sparsity_curve`: quality by how much of a model is pruned."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import tree

from keras_variance import _keras, checks
from keras_variance.inference import processes
from keras_variance.inference.labels import Labels, resolve_labelled
from keras_variance.inference.log_likelihoods import log_likelihood
from keras_variance.inference.predict import mc_predict
from keras_variance.layers.paths import find_variance_layers
from keras_variance.pruning import check_options, check_sparsity, prune
from keras_variance.transforms.walk import check_functional
from keras_variance.types import AnyLikelihood, Arrays


class Point(NamedTuple):
    """A point of a `sparsity_curve`.

    Attributes:
        sparsity: The share of weights that are 0.
        accuracy: Of the ensemble, from 0 to 1; None for numbers.
        nll: Its negative log-likelihood, in nats per label.
        rmse: Its root mean squared error; None for classes.
    """

    sparsity: float
    accuracy: float | None
    nll: float
    rmse: float | None = None


def sparsity_curve(
    model: keras.Model,
    x: Arrays,
    y: Arrays,
    sparsities: Sequence[float] = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99),
    samples: int = 20,
    batch_size: int = 32,
    likelihood: AnyLikelihood = "auto",
    seed: int | None = None,
    **kwargs,
) -> list[Point]:
    """Quality of an ensemble by how much of it is pruned.

    Args:
        model: A built Sequential or Functional model with variance layers. A copy
            is pruned, without further training.
        x: Arrays, (examples, …), in the structure of the model's inputs.
        y: Labels, of the one output that has a likelihood. What its mask leaves out
            does not count.
        sparsities: Floats from 0 to below 1.
        samples, batch_size, likelihood, seed: As for `mc_predict`.
        **kwargs: Further arguments of `prune`: `by`, `granularity`, `layers` (by
            path).

    Returns:
        A list with a `Point` for each sparsity, in ascending order.

    Raises:
        ValueError: As `prune`, if not one output has a likelihood, or for a
            `StudentT` without a variance.
        RuntimeError: In a computation of several processes.
    """
    processes.check_one("sparsity_curve")
    check_functional(model)
    several = isinstance(sparsities, Iterable) and not isinstance(sparsities, str)
    checks.require(several, "sparsities", "a list of numbers", sparsities)
    sparsities = [check_sparsity("sparsities", value) for value in sparsities]
    checks.require(sparsities, "sparsities", "a list of one number at least", [])
    check_options(**kwargs)
    samples = checks.integer("samples", samples, minimum=1)
    batch_size, seed = checks.batch_size(batch_size) or 32, checks.seed(seed)
    find_variance_layers(model, kwargs.get("layers"), built=True)
    likelihood = resolve_labelled(model, likelihood)
    if sum(each is not None for each in tree.flatten(likelihood)) > 1:
        raise ValueError(
            "Argument `likelihood` must be None for all of the model's outputs but "
            f"one. Received: likelihood={likelihood}"
        )
    labels = Labels(model, x, y, likelihood, batch_size)
    copy = _keras.clone(model)
    copy.set_weights(model.get_weights())
    points = []
    for value in sorted(sparsities):
        report = prune(copy, value, **kwargs)
        prediction = mc_predict(
            copy, x, samples, batch_size, likelihood, seed=seed, verbose=0
        )
        means = [each.mean for each in _flat(prediction)]
        ((number, each, of_output, p),) = labels.beside(means)
        if each.linear:
            values = each.log_likelihood(of_output, p)
        else:
            options = samples, likelihood, batch_size, seed
            values = log_likelihood(copy, x, y, *options, verbose=0)
            values = labels.unpadded(number, tree.flatten(values)[number])
        measures = {
            name: getattr(each, name)(of_output, p)
            for name in ("accuracy", "rmse")
            if name in each.measures
        }
        nll = -float(np.mean(values))
        point = Point(report.total.sparsity, None, nll)
        points.append(point._replace(**measures))
    return points


def _flat(predictions):
    """The `Prediction`s of a model's outputs, in a list."""
    if hasattr(predictions, "mean"):
        return [predictions]
    values = predictions
    if isinstance(values, dict):
        values = [values[key] for key in sorted(values)]
    return [x for each in values for x in _flat(each)]
