"""`Likelihood`: what every likelihood can be asked."""

from collections.abc import Callable

import numpy as np
from keras import ops

from keras_variance import checks, families


class Likelihood(families.Member):
    """Base of the likelihoods p(y | x, w).

    A new one needs `log_likelihood` and, if its parameters are not the mean of y,
    `statistics` and `matched`.

    Attributes:
        link: The activation that turns outputs into parameters, or None where they
            are parameters.
        linear: Whether p(y | x, w) is linear in the parameters, so that its average
            over w is the likelihood of the averaged parameters.
        measures: Names of the metrics of `callbacks.MCPredict` that it has.
    """

    family = "likelihood"
    link: Callable | None = None
    linear = False
    measures: tuple[str, ...] = ("nll",)

    def predictions(self, outputs):
        """The parameters of p(y | x, w), of outputs: tensors (batch, …, n)."""
        return outputs if self.link is None else self.link(outputs)

    def check_outputs(self, shape):
        """Raise ValueError if no output of this shape has this likelihood."""

    def statistics(self, x) -> dict:
        """What is known of y when the parameters are.

        Args:
            x: The parameters: an object such as `moments.Moments`, whose tensors
                `mean` and `variance` have shape (batch, …, n); a variance of None
                stands for 0.

        Returns:
            A dict with E[y | x, w] as `mean`, the variance of that as `variance`, and
            what else is averaged over w, by name.
        """
        return {"mean": x.mean, "variance": x.variance}

    def uncertainties(self, statistics: dict) -> dict:
        """Those of `entropy`, `mutual_information` and `aleatoric` that exist.

        Args:
            statistics: As `transforms.predictive` returns them for an output.
        """
        return {}

    def matched(self, statistics: dict):
        """Parameters with the mean and the total variance of the predictive
        distribution: a tensor (batch, …, n). Arguments as above."""
        return statistics["mean"]

    def log_likelihood(self, y, p):
        """log p(y) in nats: an array (batch, …).

        Args:
            y: Labels, an array.
            p: Parameters, an array (batch, …, n).

        Raises:
            ValueError: For labels of another shape, out of range, or NaN.
        """
        raise NotImplementedError

    def log_predictive(self, y, prediction):
        """log p(y | x) in nats by moments: an array (batch, …).

        Of the member of the family with the mean and the total variance of the
        predictive distribution: of classes the average over samples itself; of
        numbers an approximation, whose exact counterpart is
        `keras_variance.log_likelihood`.

        Args:
            y: Labels, an array.
            prediction: A `Prediction`, from `mc_predict` or `moment_predict`.
        """
        return self.log_likelihood(y, prediction.mean)

    def accuracy(self, y, p):
        """Share of labels that are the most probable ones: a float. As
        `log_likelihood`."""
        return self._needs("classes")

    def as_classes(self, y, p):
        """Integer labels (m,) and class probabilities (m, classes): a row for each
        label. As `log_likelihood`."""
        return self._needs("classes")

    def rmse(self, y, mean):
        """Root mean squared error of means, (batch, …, d): a float."""
        return self._needs("numbers")

    def _needs(self, kind):
        expected = f"one of {kind} for this measure"
        checks.require(False, "likelihood", expected, self)


def numbers(y):
    """Labels as an array of numbers."""
    y = np.asarray(ops.convert_to_numpy(y) if ops.is_tensor(y) else y)
    numeric = np.issubdtype(y.dtype, np.number) or y.dtype == bool
    check_labels(numeric and not np.isnan(y).any(), y, "numbers, not NaN")
    return y


def check_labels(fits, y, expected):
    """Raise ValueError unless labels are as expected."""
    if not fits:
        values = np.array2string(y.ravel(), threshold=6, edgeitems=3)
        raise ValueError(
            f"Labels must be {expected}. Received: y of shape {y.shape}, y={values}"
        )
