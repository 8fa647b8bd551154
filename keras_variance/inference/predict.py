"""Prediction: the average over samples or moments, and how they disagree."""

import contextlib
import warnings
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_variance import _keras, checks
from keras_variance.inference import processes
from keras_variance.inference.data import are_arrays, check_inputs, count_examples
from keras_variance.random import seeded
from keras_variance.transforms.deep_ensembles import checked, of_members
from keras_variance.transforms.moments import heads
from keras_variance.transforms.moments.propagate import propagate_moments
from keras_variance.transforms.moments.rules import RULES
from keras_variance.transforms.outputs import for_outputs, resolve
from keras_variance.transforms.predictives import (
    CHUNK,
    flat_statistics,
    map_statistics,
    predictive,
)
from keras_variance.transforms.sources import is_random
from keras_variance.types import AnyLikelihood, Data, Verbose

# Predictors that are kept for a model
KEPT = 4


class Prediction(NamedTuple):
    """A predictive distribution, example by example.

    Attributes:
        mean: (examples, …): average of the predictions E[y | x, w] over samples; of
            class probabilities, the predictive distribution.
        variance: (examples, …): their variance over samples: epistemic.
        entropy: (examples, …) without the last axis: of the predictive distribution,
            in nats: total uncertainty. None for outputs that are not classes: that of
            a mixture of densities has no closed form.
        mutual_information: Likewise: `entropy` minus the samples' average entropy,
            in nats, ≥ 0: how much the samples disagree. None likewise.
        samples: (examples, samples, …): every prediction, or None.
        aleatoric: (examples, …): the samples' average variance Var[y | x, w], of
            classes that of one-hot labels. None for outputs without a likelihood.
        between_variance: (examples, …): of a deep ensemble, the part of `variance`
            that is between the members' means. None for one model.
        between_information: (examples, …) without the last axis: likewise, of
            `mutual_information`: the entropy of the average prediction minus the
            members' average entropy, in nats.
    """

    mean: Any
    variance: Any
    entropy: Any
    mutual_information: Any
    samples: Any = None
    aleatoric: Any = None
    between_variance: Any = None
    between_information: Any = None

    @property
    def total_variance(self):
        """Var[y | x], aleatoric and epistemic: (examples, …), or None."""
        return None if self.aleatoric is None else self.aleatoric + self.variance

    @property
    def stddev(self):
        """The square root of the total variance: (examples, …), or None."""
        return None if self.aleatoric is None else np.sqrt(self.total_variance)


def mc_predict(
    model: keras.Model | list[keras.Model],
    x: Data,
    samples: int = 20,
    batch_size: int = 32,
    likelihood: AnyLikelihood = "auto",
    return_samples: bool = False,
    seed: int | None = None,
    verbose: Verbose = "auto",
    chunk_size: int = CHUNK,
    dropout: bool = False,
    integrate_last: bool = False,
) -> Prediction:
    """Predict with the average of many samples of the weights.

    Sugar over `transforms.predictive`, whose model is kept: called again with the
    same model and arguments, nothing is traced.

    Args:
        model: A built model with variance layers, or with `dropout`; or a list of
            models, random or not: a deep ensemble, as `transforms.deep_ensemble`.
        x: Arrays, a `tf.data.Dataset` or a `keras.utils.PyDataset`, as for
            `model.predict`.
        samples: Integer ≥ 1, the number of samples.
        batch_size: Examples a step, if `x` is arrays.
        likelihood, return_samples, chunk_size, dropout, integrate_last: As for
            `transforms.predictive`.
        seed: Integer that makes the result repeatable.
        verbose: As for `model.predict`.

    Returns:
        A `Prediction` of NumPy arrays; for a model with several outputs, the
        structure of its outputs with a `Prediction` for each. Predictions that are
        NaN stay so, with a warning.

    Raises:
        ValueError: As `transforms.predictive`, or if `x` does not fit.

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
    seed = checks.seed(seed)
    options: dict[str, Any] = {
        "samples": samples,
        "chunk_size": chunk_size,
        "dropout": dropout,
        "integrate_last": integrate_last,
    }
    if isinstance(model, list | tuple):
        checks.require(
            return_samples is False,
            "return_samples",
            "False for a list of models, some of which may have no samples",
            return_samples,
        )
        predictor, likelihood = _of_several(model, likelihood, **options)
    else:
        likelihood = resolve(model, likelihood)
        options |= {"likelihood": likelihood, "return_samples": return_samples}
        predictor = kept(model, predictive, **options)
    check_inputs(predictor, x)
    if not is_random(predictor, dropout):
        seed = None  # models of a list that are all deterministic
    noise = contextlib.nullcontext() if seed is None else seeded(predictor, seed)
    with noise:
        statistics = predict(predictor, x, batch_size, verbose)
    return predictions_of(statistics, likelihood)


def moment_predict(
    model: keras.Model | list[keras.Model],
    x: Data,
    batch_size: int = 32,
    likelihood: AnyLikelihood = "auto",
    head: str | heads.Head = "quasi_monte_carlo",
    dropout: bool = False,
    verbose: Verbose = "auto",
    fallback_samples: int | None = None,
) -> Prediction:
    """Predict as `mc_predict` with many samples does, in one deterministic pass.

    The mutual information is the entropy of the mean minus the expected entropy:
    that of the head's points (`"quasi_monte_carlo"`), by quadrature (a sigmoid), or
    else to second order. Of numbers with a likelihood, whose outputs are means m and
    log variances s, `mean` is E[m], `variance` Var[m] and `aleatoric`
    exp(E[s] + Var[s] / 2), that of Gaussian s.

    Args:
        model: A built model with variance layers, or with `dropout`; of a subclassed
            one Keras must be able to trace the call. Or a list of Sequential and
            Functional models, random or not: a deep ensemble.
        x, batch_size, verbose: As for `mc_predict`.
        likelihood, head, dropout, fallback_samples: As for
            `transforms.propagate_moments`.

    Returns:
        A `Prediction` of NumPy arrays without samples; for a model with several
        outputs, the structure of its outputs with a `Prediction` for each.

    Raises:
        ValueError: As `transforms.propagate_moments`, or if `x` does not fit.

    Example:

    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), VarianceDense(8, "relu"), keras.layers.Dense(3)]
    ... )
    >>> p = moment_predict(model, np.ones((2, 4)), likelihood="categorical", verbose=0)
    >>> p.mean.shape, p.mutual_information.shape
    ((2, 3), (2,))
    """
    options: dict[str, Any] = {
        "dropout": dropout,
        "head": heads.get(head),
        "fallback_samples": fallback_samples,
    }
    if isinstance(model, list | tuple):
        predictor, likelihood = _of_several(model, likelihood, moments=True, **options)
    else:
        likelihood = resolve(model, likelihood)
        options |= {"likelihood": likelihood, "statistics": True}
        predictor = kept(model, propagate_moments, **options)
    check_inputs(predictor, x)
    return predictions_of(predict(predictor, x, batch_size, verbose), likelihood)


def _of_several(models, likelihood, **options):
    """The model of a deep ensemble, and what its outputs mean."""
    models = checked(models, "model")
    likelihoods = [resolve(each, likelihood) for each in models]
    options |= {"likelihoods": likelihoods}
    return kept(models, of_members, **options), likelihoods[0]


def kept(model, transform, **options):
    """`transform(model, **options)`, made once.

    The last few are kept with the model, or the first of a list, in its `__dict__`,
    where neither Keras nor TensorFlow looks for layers: they live as long as it does.
    Nor does Keras look for them under a name with two underscores when it loads
    weights, which in a circle of models never ends.
    """
    models = model if isinstance(model, list) else [model]
    graphs = [_keras.graph(x) if _keras.is_functional(x) else x for x in models]
    # With LoRA, compiled again, or by other rules, it is another transform
    parts = [*graphs, *[getattr(x, "optimizer", None) for x in models], *RULES.values()]
    parts += [weight for x in models for weight in x.weights]
    key = transform.__name__, *map(id, parts), repr(options)
    made = vars(models[0]).setdefault("__keras_variance__", {})
    if key not in made:
        with _keras.outlasting():
            made[key] = transform(model, **options), parts
        while len(made) > KEPT:
            del made[next(iter(made))]
    return made[key][0]


def predict(model, x, batch_size, verbose):
    """`model.predict` of data that may come in batches."""
    batch_size, verbose = checks.batch_size(batch_size), checks.verbose(verbose)
    options = {}
    if are_arrays(x):
        options["batch_size"] = batch_size
        processes.check_batches(count_examples("x", x), batch_size or 32)
    if processes.count() > 1:
        model = kept(model, processes.Gathered)
    return model.predict(x, verbose=verbose, **options)


def predictions_of(statistics, likelihood):
    """Statistics as `predictive` returns them, as a `Prediction` for each output."""
    flat = flat_statistics(statistics)
    if any(np.isnan(each["mean"]).any() for each in flat):
        warnings.warn(
            "Predictions are NaN: the model's weights or its data are not finite.",
            stacklevel=3,
        )
    each = iter(for_outputs(likelihood, flat))
    return map_statistics(lambda value: _prediction(value, next(each)), statistics)


def _prediction(statistics, likelihood):
    known = {"entropy": None, "mutual_information": None}
    if likelihood is not None:
        tensors = {k: ops.convert_to_tensor(v) for k, v in statistics.items()}
        known |= likelihood.uncertainties(tensors)
    for name, x in known.items():
        known[name] = None if x is None else ops.convert_to_numpy(x)
    for name in ("samples", "between_variance"):
        known[name] = statistics.get(name)
    if "member_entropy" in statistics:
        information = known["entropy"] - statistics["member_entropy"]
        known["between_information"] = np.maximum(information, 0)
    return Prediction(statistics["mean"], statistics["variance"], **known)
