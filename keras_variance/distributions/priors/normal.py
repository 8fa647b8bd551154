"""`Normal`: the normal distribution, with a scale and a mean that may be learned."""

import math

import keras
from keras import ops

from keras_variance import checks
from keras_variance.distributions import posteriors
from keras_variance.distributions.priors.base import Prior, moments


@keras.saving.register_keras_serializable("keras_variance")
class Normal(Prior):
    """N(m, s²).

    KL = ½ (σ²/s² − 1 + (μ − m)²/s²) − log σ/s.

    With `learnable`, each layer has a variable log s, `prior_log_scale`, that the KL
    divergence trains (empirical Bayes); a `VarianceWrapper` has one for each random
    weight. The KL is smallest at s² = mean of (μ − m)² + σ² over its entries.

    With `mean="initial"`, each weight has an m of its own: the value that it starts
    from (MOPED), which is the initializer's in a new layer, the source's in one that
    `transforms.replace` makes, and the file's where a file without such a
    prior is loaded, which a `VarianceWrapper` refuses. Each layer keeps it in a
    variable, `prior_center`.

    Args:
        scale: Float ≥ 1e-6, s, or where it starts from.
        mean: Float, m, or `"initial"`, for posteriors that have means.
        learnable: Whether s is learned.

    References: Weight Uncertainty in Neural Networks
    (https://arxiv.org/abs/1505.05424); Specifying Weight Priors in Bayesian Deep
    Neural Networks with Empirical Bayes (https://arxiv.org/abs/1906.05323), MOPED.
    """

    def __init__(
        self, scale: float = 1.0, mean: float | str = 0.0, learnable: bool = False
    ):
        self.scale = checks.number("scale", scale, minimum=1e-6)
        if isinstance(mean, str):
            self.mean = checks.one_of("mean", mean, ("initial",))
        else:
            self.mean = checks.number("mean", mean)
        self.learnable = checks.flag("learnable", learnable)

    def check(self, noise, posterior):
        super().check(noise, posterior)
        has_means = not isinstance(posterior, posteriors.ZeroMean)
        if self.mean == "initial" and not has_means:
            raise ValueError(
                "A prior with `mean='initial'` needs a posterior that has means: any "
                f"but 'zero_mean'. Received: prior={self!r}, posterior={posterior!r}"
            )

    def variables(self, kernel):
        variables = {}
        if self.learnable:
            start = keras.initializers.Constant(math.log(self.scale))
            variables["log_scale"] = {"initializer": start, "dtype": "float32"}
        if self.mean == "initial":
            variables["center"] = {
                "shape": kernel.shape,
                "dtype": kernel.dtype,
                # On JAX two variables may share a buffer, which training deletes
                "initializer": lambda shape, dtype: ops.copy(kernel.value),
                "trainable": False,
            }
        return variables

    def log_prob(self, weights, **variables):
        center, scale = self._parameters(**variables)
        scale = ops.convert_to_tensor(scale, weights.dtype)
        square = ops.square((weights - center) / scale)
        return -square / 2 - ops.log(scale) - math.log(2 * math.pi) / 2

    def kl(self, posterior, kernel, phi, seed=None, **variables):
        mean, stddev = moments(posterior, kernel, phi)
        center, scale = self._parameters(**variables)
        ratio = stddev / scale
        excess = ops.square(ratio) - 1 + ops.square((mean - center) / scale)
        return excess / 2 - ops.log(ratio)

    def _parameters(self, center=None, log_scale=None):
        """m and s: numbers, or tensors."""
        return (
            self.mean if center is None else center,
            self.scale if log_scale is None else ops.exp(log_scale),
        )

    def get_config(self):
        return {"scale": self.scale, "mean": self.mean, "learnable": self.learnable}
