"""Networks with and without noise, asked in each way for predictions and scores."""

from functools import partial
from typing import NamedTuple

import keras

import keras_variance as kv
from examples.paper import cifar
from keras_variance.calibration.ood import Energy

OFF, SAMPLES, MOMENTS = 0, 20, "moments"
# Of uncertainty: the higher, the more
SCORES = {
    "max_probability": "1 − max p",
    "entropy": "entropy",
    "mutual_information": "mutual information",
    "energy": "energy",
}
BATCH = {"batch_size": 500, "verbose": 0}


class Row(NamedTuple):
    """Of the tables: a kind of network, and how it predicts.

    Attributes:
        network: One of `cifar.NETWORKS`.
        by: How many samples of its noise, or `OFF`, or `MOMENTS`.
        together: Whether all networks of the kind are averaged.
    """

    network: str
    by: int | str = OFF
    together: bool = False

    @property
    def title(self):
        if self.network == cifar.DETERMINISTIC:
            return "deep ensemble" if self.together else self.network
        words = {OFF: "off", 1: "1 sample", MOMENTS: MOMENTS}
        return f"{self.network}, {words.get(self.by, f'{self.by} samples')}"

    @property
    def dropout(self):
        return self.network == cifar.DROPOUT and self.by != OFF


ROWS = (
    Row(cifar.DETERMINISTIC),
    Row(cifar.DETERMINISTIC, together=True),
    *(Row(cifar.DROPOUT, by) for by in (OFF, 1, SAMPLES, MOMENTS)),
    *(Row(cifar.VARIANCE, by) for by in (1, SAMPLES, MOMENTS)),
)


class Predictor:
    """Trained networks, one or several that are averaged, as a row predicts."""

    def __init__(self, row, models):
        self.row, self.models = row, models
        self.energies = self._energies()

    def predict(self, x):
        """A `Prediction`."""
        options = {"likelihood": "categorical", **BATCH}
        if self.row.by == OFF:
            return kv.mc_predict(self.models, x, **options)
        (model,) = self.models
        options["dropout"] = self.row.dropout
        if self.row.by == MOMENTS:
            return kv.moment_predict(model, x, **options)
        return kv.mc_predict(model, x, self.row.by, seed=0, **options)

    def scores(self, x):
        """Arrays (examples,) of those of `SCORES` that there are."""
        prediction = self.predict(x)
        scores = {
            "max_probability": 1 - prediction.mean.max(axis=-1),
            "entropy": prediction.entropy,
        }
        if len(self.models) > 1 or self.row.by in (SAMPLES, MOMENTS):
            scores["mutual_information"] = prediction.mutual_information
        if self.row.by != MOMENTS:
            scores["energy"] = self.energies(x)
        return scores

    def _energies(self):
        """A function of images; none by moments, which have no rule for log Σ exp."""
        if self.row.by == MOMENTS:
            return None
        if self.row.by == OFF:
            models = [keras.Sequential([each, Energy()]) for each in self.models]
            return lambda x: kv.mc_predict(models, x, likelihood=None, **BATCH).mean
        score = kv.calibration.ood_score(
            *self.models,
            "energy",
            self.row.by,
            likelihood="categorical",
            seed=0,
            dropout=self.row.dropout,
        )
        return partial(score.predict, **BATCH)
