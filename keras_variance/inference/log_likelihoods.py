"""The log-likelihood of labels, sample by sample and of the average over samples."""

import math
import random

import keras
import numpy as np
from keras import ops, tree

from keras_variance import checks
from keras_variance.inference import processes
from keras_variance.inference.labels import Labels, resolve_labelled
from keras_variance.inference.predict import kept
from keras_variance.random import derive, seeded
from keras_variance.transforms.ensembles import ensemble
from keras_variance.transforms.outputs import for_outputs
from keras_variance.transforms.predictives import CHUNK
from keras_variance.types import AnyLikelihood, Arrays, Verbose

# Rows of a batch, times samples, that are drawn at the same time where rows are few
ROWS = 256 * CHUNK


def log_likelihood(
    model: keras.Model,
    x: Arrays,
    y: Arrays,
    samples: int = 20,
    likelihood: AnyLikelihood = "auto",
    batch_size: int = 256,
    seed: int | None = None,
    dropout: bool = False,
    verbose: Verbose = "auto",
) -> np.ndarray | list:
    """The log-likelihood of labels under the average over samples, in nats:

        log p(y | x) = log 1/K Σ p(y | x, w_k)

    For any likelihood, chunk by chunk: memory does not grow with `samples`. Of few
    samples it is too low on average, by half the variance of the average's relative
    error, more the wider the samples disagree. What an example has on the last axis is
    one label: numbers and binary variables are independent given w, not over w. For an
    approximation by moments see `likelihoods.Likelihood.log_predictive`.

    Args:
        model: A built model with variance layers, or with `dropout`.
        x: Arrays, (examples, …), in the structure of the model's inputs.
        y: Labels, in the structure of the model's outputs. Outputs without a
            likelihood need none.
        samples: Integer ≥ 1, the number of samples, K.
        likelihood: As for `mc_predict`.
        batch_size, verbose: As for `model.predict`, with one progress bar over all
            samples.
        seed: Integer that makes the result repeatable.
        dropout: As for `transforms.ensemble`.

    Returns:
        An array (examples, …), without the last axis of the outputs, 0 where their
        mask says padding; for a model with several outputs, a list with an array for
        each, None for one without a likelihood.

    Raises:
        ValueError: If `y` does not fit `x` or the likelihood, no output has a
            likelihood, nothing in the model is random, or `samples` is below 1.
        RuntimeError: In a computation of several processes.

    Example:

    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential([keras.Input((4,)), VarianceDense(2)])
    >>> x, y = np.ones((5, 4)), np.ones(5)
    >>> log_likelihood(model, x, y, likelihood="gaussian", verbose=0).shape
    (5,)

    Reference: Gal & Ghahramani, Dropout as a Bayesian Approximation
    (https://arxiv.org/abs/1506.02142), appendix 4.4.
    """
    processes.check_one("log_likelihood")
    likelihood = resolve_labelled(model, likelihood)
    labels = Labels(model, x, y, likelihood, batch_size)
    draws = log_likelihoods(labels, x, samples, batch_size, seed, verbose, dropout)
    total = next(draws)
    for more in draws:
        total = tree.map_structure(_add_exponentials, total, more)
    values = [
        None if each is None else labels.padded(k, each - math.log(samples))
        for k, each in enumerate(tree.flatten(total))
    ]
    return tree.pack_sequence_as(total, values)


def log_likelihoods(labels, x, samples, batch_size, seed, verbose, dropout):
    """log p(y | x, w_k) for each of the samples w_k: an iterator.

    Args:
        labels: The `Labels`, which know their model.
        x, samples, batch_size, seed, verbose, dropout: As for `log_likelihood`.

    Yields:
        Arrays (examples, …), of masked outputs without padding (m, …), in the
        structure of the model's outputs, None for one without a likelihood.
    """
    samples = checks.integer("samples", samples, minimum=1)
    batch_size = checks.batch_size(batch_size) or 32
    verbose, seed = checks.verbose(verbose), checks.seed(seed)
    examples = labels.examples
    processes.check_batches(examples, batch_size)
    seed = random.randrange(2**31) if seed is None else seed
    sizes = _chunks(samples, min(examples, batch_size))
    bar = keras.utils.Progbar(
        len(sizes) * math.ceil(examples / batch_size),
        verbose=1 if verbose == "auto" else verbose,
    )
    step = keras.callbacks.LambdaCallback(
        on_predict_batch_end=lambda batch, logs: bar.add(1)
    )
    for k, size in enumerate(sizes):
        predictor = kept(labels.model, ensemble, samples=size, dropout=dropout)
        with seeded(predictor, derive(seed, k)):
            outputs = predictor.predict(x, batch_size, verbose=0, callbacks=[step])
        yield from _of_outputs(labels, outputs, size)


def _chunks(samples, rows):
    """Numbers of samples, drawn one after the other: more of them for fewer rows."""
    size = max(CHUNK, ROWS // rows)
    whole, rest = divmod(samples, size)
    return [size] * whole + [rest] * (rest > 0)


def _of_outputs(labels, outputs, samples):
    flat = tree.flatten(outputs)
    likelihoods = for_outputs(labels.likelihood, flat)
    flat = [*map(_parameters, likelihoods, flat)]
    for k in range(samples):
        values = [None] * len(flat)
        for number, each, y, p in labels.beside([p[:, k] for p in flat]):
            value = each.log_likelihood(y, p)
            values[number] = np.asarray(ops.convert_to_numpy(value), "float64")
        yield tree.pack_sequence_as(outputs, values)


def _parameters(likelihood, outputs):
    if likelihood is None:
        return outputs
    outputs = ops.convert_to_tensor(outputs)
    return ops.convert_to_numpy(likelihood.predictions(outputs))


def _add_exponentials(a, b):
    """log(e^a + e^b)."""
    return None if a is None else np.logaddexp(a, b)
