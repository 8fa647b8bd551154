"""The evidence lower bound of a model on a data set."""

import math
import random
from typing import NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_variance import checks
from keras_variance.inference import processes
from keras_variance.inference.data import (
    check_data,
    labelled,
    resolve_labelled,
)
from keras_variance.inference.predict import kept
from keras_variance.layers import find_variance_layers
from keras_variance.random import derive, seeded
from keras_variance.transforms.ensemble import ensemble
from keras_variance.transforms.predictive import CHUNK

# Rows of a batch, times samples, that are drawn at the same time where rows are few
ROWS = 256 * CHUNK


class ELBO(NamedTuple):
    """In nats, over the whole data set: `elbo = data_term - kl`."""

    elbo: float
    data_term: float
    kl: float


def elbo(
    model: keras.Model,
    x,
    y,
    samples: int = 10,
    likelihood="auto",
    batch_size: int = 256,
    seed: int | None = None,
    verbose="auto",
) -> ELBO:
    """The evidence lower bound,

        ELBO = Σ_n E_q(w) log p(y_n | x_n, w) − KL(q‖p),

    with the expectation replaced by an average over samples, which is unbiased.

    Args:
        model: A built model with variance layers.
        x: Arrays, (examples, …), in the structure of the model's inputs.
        y: Labels, in the structure of the model's outputs: integers or one-hot for
            categorical outputs, 0 or 1 for binary ones. Outputs without a likelihood
            do not count.
        samples: Integer ≥ 1, the number of samples.
        likelihood: As for `mc_predict`.
        batch_size, verbose: As for `model.predict`, with one progress bar over all
            samples.
        seed: Integer that makes the result repeatable.

    Returns:
        An `ELBO`. Layers without a prior have KL 0.

    Raises:
        ValueError: If `y` does not fit `x` or the likelihood, no output has a
            likelihood, the model has no variance layer, or `samples` is below 1.
        RuntimeError: In a computation of several processes.

    Example:

    >>> from keras_variance import VarianceDense
    >>> layer = VarianceDense(3, posterior="layer_alpha", prior="ard", train_size=5)
    >>> model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Softmax()])
    >>> bound = elbo(model, np.ones((5, 4)), np.zeros(5), verbose=0)
    >>> bool(np.isclose(bound.elbo, bound.data_term - bound.kl))
    True

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764), Table 1.
    """
    processes.check_one("elbo")
    layers = find_variance_layers(model, built=True)
    samples = checks.integer("samples", samples, minimum=1)
    batch_size = checks.batch_size(batch_size) or 32
    verbose = checks.verbose(verbose)
    likelihood = resolve_labelled(model, likelihood)
    examples = check_data(model, x, y, likelihood)
    processes.check_batches(examples, batch_size)
    seed = checks.seed(seed)
    seed = random.randrange(2**31) if seed is None else seed
    total, sizes = 0.0, _chunks(samples, min(examples, batch_size))
    bar = keras.utils.Progbar(
        len(sizes) * math.ceil(examples / batch_size),
        verbose=1 if verbose == "auto" else verbose,
    )
    step = keras.callbacks.LambdaCallback(
        on_predict_batch_end=lambda batch, logs: bar.add(1)
    )
    for k, size in enumerate(sizes):
        predictor = kept(model, ensemble, samples=size)
        with seeded(predictor, derive(seed, k)):
            outputs = predictor.predict(x, batch_size, verbose=0, callbacks=[step])
        total += _log_likelihood(likelihood, y, outputs, size)
    data_term = total / samples
    generator = keras.random.SeedGenerator(seed)
    kl = math.fsum(
        ops.convert_to_numpy(each.kl_divergence(generator))
        for each in layers
        if each.prior is not None
    )
    return ELBO(data_term - kl, data_term, kl)


def _chunks(samples, rows):
    """Numbers of samples, drawn one after the other: more of them for fewer rows."""
    size = max(CHUNK, ROWS // rows)
    whole, rest = divmod(samples, size)
    return [size] * whole + [rest] * (rest > 0)


def _log_likelihood(likelihood, y, outputs, samples):
    """Sum over samples and examples, in nats."""
    total = 0.0
    for _, each, labels, output in labelled(likelihood, y, tree.flatten(outputs)):
        p = ops.convert_to_numpy(each.predictions(ops.convert_to_tensor(output)))
        for k in range(samples):
            total += np.sum(each.log_likelihood(labels, p[:, k]), dtype="float64")
    return float(ops.convert_to_numpy(total))
