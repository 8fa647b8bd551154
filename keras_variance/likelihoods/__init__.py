"""Likelihoods: what the outputs of a model mean.

A likelihood alone knows how outputs become parameters of p(y | x, w), how likely
labels are, and what accuracy, entropy and variance are. With outputs of shape
(batch, …, n):

| likelihood  | parameters                       | log p(y)                   |
|-------------|----------------------------------|----------------------------|
| categorical | softmax, last axis               | log p_y                    |
| bernoulli   | sigmoid, each entry              | Σ y log p + (1−y) log(1−p) |
| gaussian    | n/2 means m, n/2 log variances s | Σ log N(y; m, e^s)         |
| `StudentT`  | n/2 locations m, n/2 log scale²  | Σ log t(y; m, e^s)         |

With a fixed `scale`, all n outputs of the last two are locations. Entropies and
log-likelihoods are in nats, of shape (batch, …).
"""

from keras_variance import families
from keras_variance.likelihoods.base import Likelihood
from keras_variance.likelihoods.classification import (
    Bernoulli,
    Categorical,
    Classification,
)
from keras_variance.likelihoods.regression import Gaussian, Regression, StudentT
from keras_variance.types import OneLikelihood

__all__ = [
    "MEMBERS",
    "Bernoulli",
    "Categorical",
    "Classification",
    "Gaussian",
    "Likelihood",
    "Regression",
    "StudentT",
    "get",
]

# Those that need no argument
MEMBERS = {"categorical": Categorical, "bernoulli": Bernoulli, "gaussian": Gaussian}


def get(identifier: OneLikelihood) -> Likelihood | None:
    """A `Likelihood` from a name, a config or a `Likelihood`."""
    return families.get(identifier, Likelihood, MEMBERS)
