"""One sample, the means and the average of many samples, in one pass."""

from keras import ops, tree

from keras_variance.calibration.common import to_logits
from keras_variance.likelihoods import Classification, Likelihood
from keras_variance.transforms.means import run
from keras_variance.transforms.moments.rules import Moments
from keras_variance.transforms.predictives import Predictive
from keras_variance.transforms.walk import check_visible, hides


class Predictors(Predictive):
    """The statistics of a model's one output: {predictor: {statistic: tensor}}.

    What comes before the first random layer runs once for all of them. Classes have
    their logits' average over samples among the statistics, as `logits`.
    """

    def __init__(self, model, samples, likelihood):
        check_visible(model, hides)
        if isinstance(likelihood, Classification):
            likelihood = WithLogits(likelihood)
        super().__init__(model, samples, likelihood, name="predictors")

    def call(self, inputs, training=None, mask=None):
        draws = self.draws(inputs, training, mask, self.chunk_size)
        outputs = {
            "sample": self.statistics(draws.of(1)),
            "means": [self._of_means(draws.program)],
            "samples": self.statistics(draws),
        }
        return {name: each[0] for name, each in outputs.items()}

    def _of_means(self, program):
        def mean(layer, *args, **kwargs):
            return layer.mean_outputs(*args, **kwargs)

        (outputs,) = run(program, mean)
        outputs = ops.cast(outputs, "float32")
        statistics = self.likelihood.statistics(
            Moments(self.likelihood.predictions(outputs))
        )
        return {**statistics, "variance": ops.zeros_like(statistics["mean"])}

    def compute_output_spec(self, inputs, training=None, mask=None):
        (spec,) = tree.flatten(super().compute_output_spec(inputs).values())
        return dict.fromkeys(("sample", "means", "samples"), spec)


class WithLogits(Likelihood):
    """A likelihood of classes that has its logits among its statistics.

    Args:
        base: The likelihood.
    """

    def __init__(self, base):
        self.base = base

    def statistics(self, x):
        p = Moments(self.base.predictions(x.mean))
        return {**self.base.statistics(p), "logits": to_logits(x.mean, self.base)}

    def get_config(self):
        return {"base": self.base.get_config()}


def of_model(model, samples, likelihood):
    """`Predictors`, for `kept`."""
    return Predictors(model, samples, likelihood)
