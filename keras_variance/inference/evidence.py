"""The evidence lower bound of a model on a data set."""

import math
import random
from typing import NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_variance import checks
from keras_variance.inference import processes
from keras_variance.inference.labels import Labels, resolve_labelled
from keras_variance.inference.log_likelihoods import log_likelihoods
from keras_variance.layers.paths import find_variance_layers
from keras_variance.types import AnyLikelihood, Arrays, Verbose


class ELBO(NamedTuple):
    """In nats, over the whole data set: `elbo = data_term - kl`."""

    elbo: float
    data_term: float
    kl: float


def elbo(
    model: keras.Model,
    x: Arrays,
    y: Arrays,
    samples: int = 10,
    likelihood: AnyLikelihood = "auto",
    batch_size: int = 256,
    seed: int | None = None,
    verbose: Verbose = "auto",
) -> ELBO:
    """The evidence lower bound,

        ELBO = Σ_n E_q(w) log p(y_n | x_n, w) − KL(q‖p),

    with the expectation replaced by an average over samples, which is unbiased.

    Args:
        model: A built model with variance layers.
        x: Arrays, (examples, …), in the structure of the model's inputs.
        y: Labels, in the structure of the model's outputs: integers or one-hot for
            categorical outputs, 0 or 1 for binary ones, numbers for Gaussian ones.
            Outputs without a likelihood, and what an output's mask leaves out, do not
            count.
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
    likelihood = resolve_labelled(model, likelihood)
    seed = checks.seed(seed)
    seed = random.randrange(2**31) if seed is None else seed
    labels = Labels(model, x, y, likelihood, batch_size)
    options = batch_size, seed, verbose, False
    total = sum(
        np.sum(value)
        for values in log_likelihoods(labels, x, samples, *options)
        for value in tree.flatten(values)
        if value is not None
    )
    data_term = float(total) / samples
    generator = keras.random.SeedGenerator(seed)
    kl = math.fsum(
        ops.convert_to_numpy(each.kl_divergence(generator))
        for each in layers
        if each.prior is not None
    )
    return ELBO(data_term - kl, data_term, kl)
