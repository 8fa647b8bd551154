"""`ood_score`: how far an example is from what a model knows."""

from typing import Any

import keras
from keras import ops

from keras_variance import checks
from keras_variance.calibration.common import classifier, followed_by
from keras_variance.likelihoods import Bernoulli, Categorical
from keras_variance.transforms import average, predictive
from keras_variance.types import AnyLikelihood

SCORES = ("mutual_information", "entropy", "max_probability", "energy")


def ood_score(
    model: keras.Model,
    score: str = "mutual_information",
    samples: int = 20,
    likelihood: AnyLikelihood = "auto",
    seed: int | None = None,
    dropout: bool = False,
) -> keras.Model:
    """A model of one score per example: the higher, the more out of distribution.

    With probabilities p_k and logits z_k under sample w_k, and their average p̄:

    | score                | formula                      | what it measures          |
    |----------------------|------------------------------|---------------------------|
    | `mutual_information` | H(p̄) − 1/K Σ H(p_k)          | how the samples disagree  |
    | `entropy`            | H(p̄)                         | all uncertainty           |
    | `max_probability`    | 1 − max_y p̄_y                | doubt in the prediction   |
    | `energy`             | −1/K Σ log Σ_y exp z_ky      | low evidence for any class|

    In nats, but for `max_probability`. Of several binary variables the most probable
    label is that of all of them. Compare scores with `metrics.ood_metrics`.

    Args:
        model: A built Sequential or Functional classifier with variance layers, or
            with `dropout`, and one output.
        score: One of the above.
        samples: Integer ≥ 1, the number of samples K.
        likelihood: As for `mc_predict`: categorical or Bernoulli. `energy` needs
            categorical logits: a softmax has dropped it.
        seed: Integer that makes the noise repeatable.
        dropout: As for `transforms.ensemble`.

    Returns:
        A Keras model with the same inputs, weights and losses, that returns scores of
        shape (batch, …), without the last axis of the outputs.

    Raises:
        ValueError: For another score, a model of several outputs, or a likelihood that
            the score does not have.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential([keras.Input((4,)), VarianceDense(3, "softmax")])
    >>> tuple(ood_score(model)(np.ones((5, 4))).shape)
    (5,)

    References: Houlsby et al. (https://arxiv.org/abs/1112.5745), equation 2; Hendrycks
    & Gimpel (https://arxiv.org/abs/1610.02136); Liu et al., Energy-based
    Out-of-distribution Detection (https://arxiv.org/abs/2010.03759), equation 4.
    """
    checks.one_of("score", score, SCORES)
    likelihood = classifier(model, likelihood, Categorical, Bernoulli)
    options: dict[str, Any] = {"samples": samples, "seed": seed, "dropout": dropout}
    if score == "energy":
        known = isinstance(likelihood, Categorical) and likelihood.from_logits
        checks.require(known, "likelihood", "categorical logits", likelihood)
        return average(followed_by(model, Energy()), likelihood=None, **options)
    statistics = predictive(model, likelihood=likelihood, **options)
    return followed_by(statistics, Score(score, likelihood))


@keras.saving.register_keras_serializable("keras_variance")
class Energy(keras.layers.Layer):
    """−log Σ exp z, of logits z on the last axis."""

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs):
        return -ops.logsumexp(inputs, axis=-1)


@keras.saving.register_keras_serializable("keras_variance")
class Score(keras.layers.Layer):
    """A score of the statistics that `predictive` returns.

    Args:
        score: One of `SCORES` but `"energy"`.
        likelihood: Of the outputs.
    """

    def __init__(self, score, likelihood, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.score = score
        self.likelihood = likelihood

    def call(self, statistics):
        p = statistics["mean"]
        if self.score == "max_probability":
            return 1 - self._largest(p)
        entropy = self.likelihood.entropy(p)
        if self.score == "entropy":
            return entropy
        return ops.maximum(entropy - statistics["expected_entropy"], 0)

    def _largest(self, p):
        """The probability of the most probable label."""
        if isinstance(self.likelihood, Categorical):
            return ops.max(p, axis=-1)
        return ops.prod(ops.maximum(p, 1 - p), axis=-1)

    def get_config(self):
        likelihood = keras.saving.serialize_keras_object(self.likelihood)
        config = {"score": self.score, "likelihood": likelihood}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        likelihood = keras.saving.deserialize_keras_object(config["likelihood"])
        return cls(**{**config, "likelihood": likelihood})
