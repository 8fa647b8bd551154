"""`predictive`: the predictive distribution, from samples, as a Keras model."""

import keras
from keras import ops, tree

from keras_variance import checks
from keras_variance.transforms.ensembles import Ensemble
from keras_variance.transforms.moments.propagate import (
    ordered,
    predictions,
    statistics_of,
    statistics_spec,
)
from keras_variance.transforms.moments.rules import Moments
from keras_variance.transforms.outputs import for_outputs, resolve
from keras_variance.types import AnyLikelihood

# Samples that are in memory at the same time
CHUNK = 20


def predictive(
    model: keras.Model,
    samples: int = 20,
    likelihood: AnyLikelihood = "auto",
    chunk_size: int = CHUNK,
    seed: int | None = None,
    return_samples: bool = False,
    dropout: bool = False,
    integrate_last: bool = False,
) -> keras.Model:
    """A model that returns statistics of its predictions over samples of the weights.

    What comes before the first random layer runs once. Statistics are accumulated
    chunk by chunk: memory does not grow with `samples`, unless they are returned.

    Args:
        model: A built model with variance layers, or with `dropout`.
        samples: Integer ≥ 1, the number of samples.
        likelihood: What outputs mean: `"auto"`, the name of a likelihood, a
            `keras_variance.likelihoods.Likelihood`, None, or one for each output in
            the model's structure. `"auto"` is what the compiled loss says, else the
            last activation, a softmax or a sigmoid, else None. Whether outputs are
            logits follows from these too: then they become probabilities, sample by
            sample. Of numbers with a likelihood, predictions are the means.
        chunk_size: Integer ≥ 1, samples that are in memory at the same time, at most.
        seed: Integer that makes the noise repeatable.
        return_samples: Whether to return every prediction too.
        dropout, integrate_last: As for `ensemble`.

    Returns:
        A Keras model with the same inputs, weights and losses, that returns a dict in
        the place of each output, in single precision:

        - `mean`: (batch, …), of the predictions E[y | x, w] over samples.
        - `variance`: (batch, …), likewise.
        - `expected_entropy`: (batch, …) without the last axis, of classes: the
          samples' average entropy in nats.
        - `aleatoric`: (batch, …), of numbers with a likelihood: the samples' average
          variance Var[y | x, w].
        - `samples`: (batch, samples, …), with `return_samples`: every prediction.

    Raises:
        ValueError: If nothing in the model is random, or for arguments out of range.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), VarianceDense(3), keras.layers.Softmax()]
    ... )
    >>> statistics = predictive(model, samples=50)(np.ones((2, 4)))
    >>> sorted(statistics), tuple(statistics["mean"].shape)
    (['expected_entropy', 'mean', 'variance'], (2, 3))
    """
    likelihood = resolve(model, likelihood)
    return Predictive(
        model,
        samples,
        likelihood,
        chunk_size,
        return_samples,
        seed=seed,
        dropout=dropout,
        integrate_last=integrate_last,
    ).as_model()


@keras.saving.register_keras_serializable("keras_variance")
class Predictive(Ensemble):
    """A model, walked with samples, of which statistics are kept: the one layer of
    `predictive`."""

    def __init__(
        self,
        model,
        samples=20,
        likelihood=None,
        chunk_size=CHUNK,
        return_samples=False,
        **kwargs,
    ):
        super().__init__(model, samples, **kwargs)
        self.likelihood = likelihood
        self.chunk_size = checks.integer("chunk_size", chunk_size, minimum=1)
        self.return_samples = checks.flag("return_samples", return_samples)

    def call(self, inputs, training=None, mask=None):
        draws = self.draws(inputs, training, mask, self.chunk_size)
        return draws.pack(self.statistics(draws))

    def statistics(self, draws):
        """Of each output, in a list."""
        each = for_outputs(self.likelihood, draws.program.outputs)

        def records(chunk):
            pairs = zip(chunk, each, strict=True)
            return [_record(x, likelihood, self.head) for x, likelihood in pairs]

        if self.return_samples:
            totals = [_statistics_and_samples(x) for x in draws.collect(records)]
        else:

            def statistics(chunk):
                return [_statistics(x) for x in records(chunk)]

            totals = draws.fold(statistics, _merge)
        return [_finish(total) for total in totals]

    def averages(self, draws):
        """Of each output, in a list: parameters of the average over samples."""
        statistics = self.statistics(draws)
        each = for_outputs(self.likelihood, draws.program.outputs)
        return [
            x["mean"] if likelihood is None else likelihood.matched(x)
            for x, likelihood in zip(statistics, each, strict=True)
        ]

    def compute_output_spec(self, inputs, training=None, mask=None):
        specs = self.model.compute_output_spec(inputs)
        each = for_outputs(self.likelihood, specs)
        samples = self.samples if self.return_samples else None
        flat = [
            statistics_spec(spec, likelihood, samples)
            for spec, likelihood in zip(tree.flatten(specs), each, strict=True)
        ]
        return tree.pack_sequence_as(specs, flat)

    def get_config(self):
        config = {
            "likelihood": keras.saving.serialize_keras_object(self.likelihood),
            "chunk_size": self.chunk_size,
            "return_samples": self.return_samples,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        likelihood = keras.saving.deserialize_keras_object(config["likelihood"])
        return super().from_config({**config, "likelihood": likelihood})


def _float(x):
    dtype = keras.backend.standardize_dtype(x.dtype)
    return ops.cast(x, keras.backend.result_type(dtype, "float32"))


def of_samples(outputs, likelihood):
    """What a predictive model with `return_samples` returns, of samples that are
    there: outputs (batch, samples, …)."""
    each = for_outputs(likelihood, outputs)
    records = [
        _record(Moments(x), likelihood)
        for x, likelihood in zip(tree.flatten(outputs), each, strict=True)
    ]
    totals = [_finish(_statistics_and_samples(record)) for record in records]
    return tree.pack_sequence_as(outputs, totals)


def _record(x, likelihood, head=None):
    """Of each sample: mean, variance and so on: (batch, samples, …)."""
    x = x.map(_float)
    if x.variance is not None:
        x = predictions(x, likelihood, head)
    elif likelihood is not None:
        x = Moments(likelihood.predictions(x.mean))
    return statistics_of(x, likelihood)


def _statistics_and_samples(record):
    return {**_statistics(record), "samples": record["mean"]}


def _finish(total):
    """The statistics that are returned."""
    variance = total["squares"] / total["count"]
    rest = {k: v for k, v in total.items() if k not in ("count", "squares")}
    return ordered({**rest, "variance": variance})


def _statistics(record):
    """Count, mean, sum of squared deviations of samples, and averages of the rest."""
    samples = record["mean"]
    mean = ops.mean(samples, axis=1)
    squares = ops.sum(ops.square(samples - mean[:, None]), axis=1)
    if "variance" in record:  # of each sample: the law of total variance
        squares = squares + ops.sum(record["variance"], axis=1)
    return {
        "count": ops.cast(ops.shape(samples)[1], mean.dtype),
        "mean": mean,
        "squares": squares,
        **{name: ops.mean(record[name], axis=1) for name in _averaged(record)},
    }


def _averaged(statistics):
    """The names of what is averaged, beside the mean and the variance."""
    return sorted({*statistics} - {"count", "mean", "squares", "variance"})


def _merge(total, more):
    """Statistics over two sets of samples (Chan et al. 1983, equation 2.1)."""
    return [_merge_one(a, b) for a, b in zip(total, more, strict=True)]


def _merge_one(a, b):
    count = a["count"] + b["count"]
    share = b["count"] / count
    difference = b["mean"] - a["mean"]
    merged = {
        "count": count,
        "mean": a["mean"] + difference * share,
        "squares": a["squares"]
        + b["squares"]
        + ops.square(difference) * a["count"] * share,
    }
    for name in _averaged(a):
        merged[name] = a[name] + (b[name] - a[name]) * share
    return merged


def map_statistics(function, value):
    """`function` of the statistics of each output, in the structure of the outputs."""
    if _is_statistics(value):
        return function(value)
    if isinstance(value, dict):
        return {key: map_statistics(function, value[key]) for key in sorted(value)}
    return type(value)(map_statistics(function, each) for each in value)


def flat_statistics(value):
    """The statistics of each output, in a list, from a predictive model's outputs."""
    flat = []
    map_statistics(flat.append, value)
    return flat


def _is_statistics(value):
    """Whether a value is the statistics of one output, and not of several."""
    return isinstance(value, dict) and not tree.is_nested(value.get("mean", {}))
