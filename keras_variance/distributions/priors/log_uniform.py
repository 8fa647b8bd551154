"""Priors whose KL divergence is a function of α = σ²/μ² alone."""

import keras
from keras import ops

from keras_variance.distributions.priors.base import Prior


@keras.saving.register_keras_serializable("keras_variance")
class LogUniform(Prior):
    """p(w) ∝ 1/|w|: the improper prior of variational dropout.

    KL = k₁ sigmoid(−k₂ − k₃ log α) + ½ log(1 + 1/α), within 0.01 nats of the
    integral for any α, and shifted by the improper prior's free constant so
    that it falls to 0 as α → ∞. A zero-mean weight has α = ∞ and KL 0.

    Reference: Variational Dropout Sparsifies Deep Neural Networks
    (https://arxiv.org/abs/1701.05369), equation 14.
    """

    def kl(self, posterior, kernel, phi, seed=None):
        k1, k2, k3 = 0.63576, 1.87320, 1.48695
        log_alpha = posterior.log_alpha(kernel, phi)
        return k1 * ops.sigmoid(-k2 - k3 * log_alpha) + ops.softplus(-log_alpha) / 2


@keras.saving.register_keras_serializable("keras_variance")
class ARD(Prior):
    """N(0, λ⁻¹) with the best precision λ for each weight (empirical Bayes).

    KL = ½ log(1 + 1/α), at λ⁻¹ = μ² + σ². A zero-mean weight has KL 0.

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764), equation
    11, which lost the ½.
    """

    def kl(self, posterior, kernel, phi, seed=None):
        return ops.softplus(-posterior.log_alpha(kernel, phi)) / 2
