"""Priors, as the KL divergence of a weight's Gaussian posterior from them.

With q(w) = N(μ, σ²) and α = σ²/μ²:

| prior         | KL(q‖p) in nats                                              |
|---------------|--------------------------------------------------------------|
| normal        | ½ (σ²/s² − 1 + (μ − m)²/s²) − log σ/s                        |
| scale_mixture | −E log Σ_k π_k N(w; 0, s_k²) − ½ log(2πe σ²)                 |
| student_t     | (ν+1)/2 · E log(1 + w²/(νs²)) − log σ + const(ν, s)          |
| log_uniform   | ≈ k₁ sigmoid(−k₂ − k₃ log α) + ½ log(1 + 1/α)                |
| ard           | ½ log(1 + 1/α)                                               |

A new prior is a `Prior` with a `log_prob`.
"""

from keras_variance import families
from keras_variance.distributions.priors.base import Prior
from keras_variance.distributions.priors.log_uniform import ARD, LogUniform
from keras_variance.distributions.priors.normal import Normal
from keras_variance.distributions.priors.scale_mixture import ScaleMixture
from keras_variance.distributions.priors.student_t import StudentT

__all__ = [
    "ARD",
    "MEMBERS",
    "LogUniform",
    "Normal",
    "Prior",
    "ScaleMixture",
    "StudentT",
    "get",
]

MEMBERS = {
    "log_uniform": LogUniform,
    "student_t": StudentT,
    "ard": ARD,
    "normal": Normal,
    "scale_mixture": ScaleMixture,
}


def get(identifier: str | dict | Prior | None) -> Prior | None:
    """A `Prior` from a name, a config or a `Prior`."""
    return families.get(identifier, Prior, MEMBERS)
