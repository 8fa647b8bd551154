"""Monte Carlo prediction: the average over samples, and how they disagree."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_variance import categorical
from keras_variance.random import derive
from keras_variance.transforms.ensemble import check_samples, ensemble
from keras_variance.transforms.rewrite import (
    find_variance_layers,
    functional,
    is_functional,
    split_prefix,
)

# Samples that are in memory at the same time.
CHUNK = 20


class Prediction(NamedTuple):
    """A predictive distribution, row by row.

    Attributes:
        mean: (rows, …): average of the predictions over samples; of class
            probabilities, the predictive distribution.
        variance: (rows, …): their variance over samples.
        entropy: (rows,): of the predictive distribution, in nats: total
            uncertainty. None where outputs are no probabilities.
        mutual_information: (rows,): `entropy` minus the samples' average entropy,
            in nats, ≥ 0: how much the samples disagree. None likewise.
        samples: (rows, samples, …): every prediction, or None.
    """

    mean: Any
    variance: Any
    entropy: Any
    mutual_information: Any
    samples: Any = None


def mc_predict(
    model,
    x,
    samples: int = 20,
    batch_size: int = 32,
    from_logits: bool = False,
    return_samples: bool = False,
    seed: int | None = None,
    verbose="auto",
) -> Prediction:
    """Predict with the average of many samples of the weights.

    Mean and variance are accumulated chunk by chunk: memory does not grow with
    `samples`, unless they are returned.

    Args:
        model: A built model with variance layers.
        x: Arrays, a `tf.data.Dataset` or a `keras.utils.PyDataset`, as for
            `model.predict`.
        samples: Integer ≥ 1, the number of samples.
        batch_size: Rows a step, where `x` is arrays.
        from_logits: Whether the outputs are logits, to be turned into
            probabilities sample by sample: by a softmax, or a sigmoid where there
            is one. Else outputs whose rows sum to 1 are taken as probabilities.
        return_samples: Whether to return every prediction.
        seed: Integer that makes the result repeatable.
        verbose: As for `model.predict`.

    Returns:
        A `Prediction` of NumPy arrays; for a model with several outputs, the
        structure of its outputs with a `Prediction` for each.

    Raises:
        ValueError: If the model has no variance layer or `samples` is below 1.

    Example:

    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), VarianceDense(3), keras.layers.Softmax()]
    ... )
    >>> prediction = mc_predict(model, np.ones((2, 4)), samples=50, verbose=0)
    >>> prediction.mean.shape, prediction.entropy.shape
    ((2, 3), (2,))

    Reference: Houlsby et al., Bayesian Active Learning for Classification and
    Preference Learning (https://arxiv.org/abs/1112.5745), equation 2 (mutual
    information).
    """
    predictor = MonteCarlo(model, samples, from_logits, return_samples, seed)
    statistics = predict(predictor, x, batch_size, verbose)
    predictions = [prediction_of(each, from_logits) for each in statistics]
    return predictor.pack(predictions)


def predict(model, x, batch_size, verbose):
    """`model.predict` of data that may come in batches."""
    arrays = tree.is_nested(x) or isinstance(x, np.ndarray) or ops.is_tensor(x)
    options = {"batch_size": batch_size} if arrays else {}
    return model.predict(x, verbose=verbose, **options)


def prediction_of(statistics, from_logits):
    """A `Prediction` of arrays `mean`, `variance`, `entropy` (expected), `samples`."""
    mean = statistics["mean"]
    entropy = information = None
    if from_logits or is_distribution(mean):
        entropy = ops.convert_to_numpy(categorical.entropy(mean))
        information = np.maximum(entropy - statistics["entropy"], 0)
    samples = statistics.get("samples")
    return Prediction(mean, statistics["variance"], entropy, information, samples)


def is_distribution(mean) -> bool:
    """Whether the rows of an array are probabilities: not negative, and sum to 1."""
    sums = mean.sum(axis=-1) if mean.ndim > 1 else 0.0
    return bool(np.all(mean >= 0) and np.allclose(sums, 1, atol=1e-3))


class MonteCarlo(keras.Model):
    """A model whose outputs are statistics over the samples of another.

    Its deterministic prefix runs once, the rest in chunks of samples: models that
    `ensemble(model, samples, seed=seed)` makes.

    Returns:
        A list of dicts, one for each output of the model: `mean`, `variance`,
        `entropy` (the average over samples), and `samples` if asked for.
    """

    def __init__(
        self,
        model,
        samples,
        from_logits,
        return_samples=False,
        seed=None,
        ensemble=ensemble,
    ):
        check_samples(samples)
        find_variance_layers(model)
        super().__init__(name=model.name)
        self.from_logits = from_logits
        self.return_samples = return_samples
        self.structure = None
        self.prefix, suffix = lambda inputs: inputs, model
        if is_functional(model):
            self.prefix, suffix = split_prefix(model)
            self.structure = functional(suffix).output
        chunk = samples if return_samples else min(samples, CHUNK)
        self.chunk = ensemble(suffix, chunk, seed=seed)
        self.chunks, rest = divmod(samples, chunk)
        self.rest = ensemble(suffix, rest, seed=derive(seed, 0)) if rest else None

    def call(self, inputs):
        features = self.prefix(inputs)
        total = self._draw(self.chunk, features)
        if self.chunks > 1:

            def add_chunk(_, total):
                return _merge(total, self._draw(self.chunk, features))

            total = ops.fori_loop(1, self.chunks, add_chunk, total)
        if self.rest is not None:
            total = _merge(total, self._draw(self.rest, features))
        count = ops.cast(total[0]["count"], "float32")
        for each in total:
            each["variance"] = each.pop("squares") / count
            del each["count"]
        return total

    def _draw(self, model, features):
        return [self._statistics(each) for each in tree.flatten(model(features))]

    def _statistics(self, samples):
        samples = ops.cast(samples, "float32")
        if self.from_logits:
            samples = categorical.probabilities(samples)
        mean = ops.mean(samples, axis=1)
        is_scalar = len(samples.shape) == 2  # and so no distribution
        entropy = ops.zeros_like if is_scalar else categorical.entropy
        statistics = {
            "count": ops.cast(samples.shape[1], "float32"),
            "mean": mean,
            "squares": ops.sum(ops.square(samples - mean[:, None]), axis=1),
            "entropy": ops.mean(entropy(samples), axis=1),
        }
        return statistics | ({"samples": samples} if self.return_samples else {})

    def pack(self, values):
        """A value for each output, in the structure of the model's outputs."""
        if self.structure is None:
            return values[0] if len(values) == 1 else values
        return tree.pack_sequence_as(self.structure, values)


def _merge(total, more):
    """Statistics over two sets of samples (Chan et al. 1983, equation 2.1)."""
    return [_merge_one(a, b) for a, b in zip(total, more, strict=True)]


def _merge_one(a, b):
    count = a["count"] + b["count"]
    share = b["count"] / count
    difference = b["mean"] - a["mean"]
    squares = ops.square(difference) * a["count"] * share
    return {
        "count": count,
        "mean": a["mean"] + difference * share,
        "squares": a["squares"] + b["squares"] + squares,
        "entropy": a["entropy"] + (b["entropy"] - a["entropy"]) * share,
    }
