"""The evidence lower bound of a model on a data set."""

import math
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_variance.categorical import probabilities
from keras_variance.inference.predict import CHUNK
from keras_variance.random import derive
from keras_variance.transforms.ensemble import check_samples, ensemble
from keras_variance.transforms.rewrite import find_variance_layers


class ELBO(NamedTuple):
    """In nats, over the whole data set: `elbo = data_term - kl`."""

    elbo: float
    data_term: float
    kl: float


def categorical_log_likelihood(y, p):
    """log p_y in nats, from labels (rows,) and class probabilities (rows, classes)."""
    y = np.reshape(y, len(y)).astype("int64")
    return np.log(np.maximum(p[np.arange(len(y)), y], 1e-30))


def elbo(
    model,
    x,
    y,
    samples: int = 10,
    from_logits: bool = False,
    log_likelihood=categorical_log_likelihood,
    batch_size: int = 256,
    seed: int | None = None,
    verbose="auto",
) -> ELBO:
    """The evidence lower bound,

        ELBO = Σ_n E_q(w) log p(y_n | x_n, w) − KL(q‖p),

    with the expectation replaced by an average over samples, which is unbiased.

    Args:
        model: A built model with variance layers.
        x: Array, (rows, …).
        y: Array of integer labels, (rows,), or what `log_likelihood` takes.
        samples: Integer ≥ 1, the number of samples.
        from_logits: Whether the outputs are logits, not probabilities.
        log_likelihood: Function of `y` and the predictions of one sample (after
            the softmax, with `from_logits`) that returns nats, (rows,).
        batch_size, verbose: As for `model.predict`.
        seed: Integer that makes the result repeatable.

    Returns:
        An `ELBO`. Layers without a prior have KL 0.

    Raises:
        ValueError: If `y` has another length than `x`, or the model no variance
            layer, or `samples` is below 1.

    Example:

    >>> import keras
    >>> from keras_variance import VarianceDense
    >>> layer = VarianceDense(3, posterior="layer_alpha", prior="ard", train_size=5)
    >>> model = keras.Sequential([keras.Input((4,)), layer])
    >>> x, y = np.ones((5, 4)), np.zeros(5)
    >>> bound = elbo(model, x, y, from_logits=True, verbose=0)
    >>> bool(np.isclose(bound.elbo, bound.data_term - bound.kl))
    True

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764), Table 1.
    """
    if len(x) != len(y):
        raise ValueError(
            f"Argument `y` must have a row for each of the {len(x)} rows of `x`. "
            f"Received: y with {len(y)} rows"
        )
    check_samples(samples)
    layers = find_variance_layers(model)
    whole, rest = divmod(samples, CHUNK)
    sizes = [CHUNK] * whole + [rest] * (rest > 0)
    predictors = {
        size: ensemble(model, size, seed=derive(seed, size)) for size in set(sizes)
    }
    total = 0.0
    for size in sizes:
        outputs = predictors[size].predict(x, batch_size=batch_size, verbose=verbose)
        if from_logits:
            outputs = ops.convert_to_numpy(probabilities(outputs))
        for k in range(size):
            total += np.sum(log_likelihood(y, outputs[:, k]), dtype="float64")
    data_term = float(total) / samples
    kl = math.fsum(each.kl_divergence() for each in layers if each.prior is not None)
    return ELBO(data_term - kl, data_term, kl)
