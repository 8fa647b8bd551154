"""`deep_ensemble`: the predictive distribution of several models, as a Keras model."""

from collections.abc import Sequence

import keras
from keras import ops, tree

from keras_variance import checks
from keras_variance.random import derive
from keras_variance.transforms.moments.propagate import (
    MomentPropagation,
    float_spec,
    ordered,
    propagate_moments,
)
from keras_variance.transforms.outputs import for_outputs, resolve
from keras_variance.transforms.predictives import (
    CHUNK,
    flat_statistics,
    map_statistics,
    predictive,
)
from keras_variance.transforms.sources import is_random
from keras_variance.transforms.walk import (
    functional,
    is_functional,
    new_input,
    serialized,
)
from keras_variance.types import AnyLikelihood


def deep_ensemble(
    models: Sequence[keras.Model],
    samples: int = 20,
    likelihood: AnyLikelihood = "auto",
    moments: bool = False,
    seed: int | None = None,
    dropout: bool = False,
    chunk_size: int = CHUNK,
    integrate_last: bool = False,
) -> keras.Model:
    """A model that returns statistics of the predictions of several models.

    With members m, each with weights w that may be random, and equal shares:

        E[y | x] = E_m E_w[y]
        Var E[y | x, w] = E_m Var_w + Var_m E_w          (within, between members)
        I[y; w, m] = (E_m H[p_m] − E_m E_w H[p]) + (H[E_m p_m] − E_m H[p_m])

    Args:
        models: A list of built Keras models, with inputs and outputs of one structure.
            Those with nothing random in them are called once.
        samples: Integer ≥ 1, of each stochastic model.
        likelihood: As for `predictive`; `"auto"` may find that some members return
            logits and others probabilities.
        moments: Whether stochastic members are not sampled, but `propagate_moments`
            through them: with this, nothing is random in the result.
        seed: Integer that makes the noise repeatable.
        dropout: Whether stock dropout and noise layers are random, too.
        chunk_size, integrate_last: As for `predictive`.

    Returns:
        A Keras model with the inputs of the first model, the weights and the losses of
        all. It returns a dict in the place of each output, as `predictive` does, with
        two more entries:

        - `between_variance`: (batch, …), of the members' means. `variance` is the sum
          of this and of the members' average variance.
        - `member_entropy`: (batch, …) without the last axis: the members' average
          entropy in nats, if there is a likelihood of classes.

    Raises:
        ValueError: If there is no model, one is not built, they do not fit each other,
            or as `predictive` or `propagate_moments` for a stochastic member.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> def member():
    ...     return keras.Sequential(
    ...         [keras.Input((4,)), VarianceDense(3), keras.layers.Softmax()]
    ...     )
    >>> statistics = deep_ensemble([member(), member()])(np.ones((2, 4)))
    >>> tuple(statistics["mean"].shape), tuple(statistics["member_entropy"].shape)
    ((2, 3), (2,))

    References: Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty
    Estimation using Deep Ensembles (https://arxiv.org/abs/1612.01474); Depeweg et al.,
    Decomposition of Uncertainty in Bayesian Deep Learning
    (https://arxiv.org/abs/1710.07283), section 3.1.
    """
    models = checked(models)
    return of_members(
        models,
        [resolve(model, likelihood) for model in models],
        samples,
        moments,
        seed,
        dropout,
        chunk_size,
        integrate_last,
    )


def of_members(
    models,
    likelihoods,
    samples=20,
    moments=False,
    seed=None,
    dropout=False,
    chunk_size=CHUNK,
    integrate_last=False,
    head="quasi_monte_carlo",
    fallback_samples=None,
):
    """`deep_ensemble`, of checked models, each with its resolved likelihood."""
    moments, dropout = checks.flag("moments", moments), checks.flag("dropout", dropout)
    seed = checks.seed(seed)

    def member(k, model, likelihood):
        if not is_random(model, dropout):
            # Of what is known it carries the value, with a variance of 0
            return MomentPropagation(model, likelihood, statistics=True).as_model()
        options = {"likelihood": likelihood, "dropout": dropout}
        if moments:
            options |= {"head": head, "fallback_samples": fallback_samples}
            return propagate_moments(model, **options, statistics=True)
        options |= {"chunk_size": chunk_size, "integrate_last": integrate_last}
        own = None if seed is None else derive(seed, k)
        return predictive(model, samples, seed=own, **options)

    pairs = zip(models, likelihoods, strict=True)
    members = [member(k, *each) for k, each in enumerate(pairs)]
    _check_alike(models, members)
    inputs = tree.map_structure(new_input, functional(models[0]).input)
    outputs = DeepEnsemble(members, likelihoods[0])(inputs)
    return keras.Model(inputs, outputs, name=models[0].name)


@keras.saving.register_keras_serializable("keras_variance")
class DeepEnsemble(keras.Layer):
    """Models that return statistics, merged: the one layer of `deep_ensemble`."""

    def __init__(self, members, likelihood=None, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})
        self.members = list(members)
        self.likelihood = likelihood

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs, training=None):
        return self._merged([each(inputs, training=training) for each in self.members])

    def compute_output_spec(self, inputs, training=None):
        specs = [each.compute_output_spec(inputs) for each in self.members]
        return tree.map_structure(float_spec, self._merged(specs))

    def _merged(self, outputs):
        """Of each output: statistics of the members in a list, as one."""
        each = iter(for_outputs(self.likelihood, flat_statistics(outputs[0])))
        flat = zip(*map(flat_statistics, outputs), strict=True)
        return map_statistics(lambda _: _merge(next(flat), next(each)), outputs[0])

    def get_config(self):
        config = {
            "members": [serialized(each) for each in self.members],
            "likelihood": keras.saving.serialize_keras_object(self.likelihood),
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        config["members"] = [deserialize(each) for each in config["members"]]
        return cls(**{**config, "likelihood": deserialize(config["likelihood"])})


def _merge(members, likelihood):
    """The statistics of an output over equal shares of members."""

    def each(name):
        return ops.stack([statistics[name] for statistics in members])

    merged = {name: ops.mean(each(name), axis=0) for name in members[0]}
    between = ops.var(each("mean"), axis=0)
    merged["variance"] = merged["variance"] + between
    merged["between_variance"] = between
    if likelihood is not None:
        known = [likelihood.uncertainties(statistics) for statistics in members]
        if "entropy" in known[0]:
            entropies = ops.stack([each["entropy"] for each in known])
            merged["member_entropy"] = ops.mean(entropies, axis=0)
    return ordered(merged)


def checked(models, name="models"):
    """The models, in a list; `name` is the argument's."""
    several = isinstance(models, list | tuple) and len(models) > 0
    known = several and all(isinstance(each, keras.Model) for each in models)
    checks.require(known, name, "a list of Keras models", models)
    # Keras would save one that is there twice so that it cannot be loaded
    different = len({id(each) for each in models}) == len(models)
    checks.require(different, name, "a list of different models", models)
    for each in models:
        expected = "Sequential or Functional models"
        checks.require(is_functional(each), name, expected, each)
        functional(each)  # is built
    return list(models)


def _check_alike(models, members):
    """Raise ValueError unless inputs and outputs are as those of the first member."""

    def shapes(k):
        source, outputs = functional(models[k]).input, members[k].output
        return tree.map_structure(lambda x: tuple(x.shape[1:]), (source, outputs))

    for k in range(1, len(models)):
        if shapes(k) != shapes(0):
            raise ValueError(
                "Argument `models` must be models whose inputs and predictions have "
                f"the same structure and shapes. Received: '{models[0].name}' with "
                f"(inputs, predictions) {shapes(0)}, and '{models[k].name}' with "
                f"{shapes(k)}"
            )
