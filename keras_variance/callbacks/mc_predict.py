"""Monte Carlo metrics after each epoch."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_variance.categorical import probabilities
from keras_variance.inference.elbo import categorical_log_likelihood
from keras_variance.inference.metrics import BrierScore, ExpectedCalibrationError
from keras_variance.transforms import ensemble, propagate_mean, zero_mean
from keras_variance.transforms.ensemble import check_samples
from keras_variance.transforms.rewrite import (
    check_functional,
    find_variance_layers,
    split_prefix,
)

PREDICTORS = ("sample", "mean", "ensemble", "zero_mean")


def _streaming(metric):
    return lambda y, p: metric()(y, p)


METRICS = {
    "accuracy": lambda y, p: np.mean(np.argmax(p, axis=-1) == y),
    "nll": lambda y, p: -np.mean(categorical_log_likelihood(y, p)),
    "ece": _streaming(ExpectedCalibrationError),
    "brier": _streaming(BrierScore),
}


class MCPredict(keras.callbacks.Callback):
    """Compares ways to predict with a stochastic model, epoch by epoch.

    Example:

    ```python
    mc = kv.callbacks.MCPredict(x_test, y_test, from_logits=True)
    stop = keras.callbacks.EarlyStopping("val_ensemble_nll", mode="min")
    model.fit(x, y, epochs=100, callbacks=[mc, stop])
    ```

    Puts `val_{predictor}_{metric}` into the logs: `History`, the progress bar, and
    callbacks listed after it see them. Predictors are `sample` (one sample of the
    weights), `mean` (weights at their means), `ensemble` (probabilities averaged
    over samples) and `zero_mean` (one sample, means dropped). What they have in
    common, up to the first variance layer, is computed once.

    Args:
        x: Array, (rows, …).
        y: Array of integer labels, (rows,).
        samples: Integer ≥ 1, samples of the ensemble.
        predictors: Some of the four.
        metrics: Some of `"accuracy"`, `"nll"` (nats), `"ece"` (15 bins), `"brier"`.
        every: Integer ≥ 1: evaluate after every so many epochs.
        from_logits: Whether the model's outputs are logits, not probabilities.
        batch_size: Rows a step.

    Raises:
        ValueError: For unknown predictors or metrics, `y` of another length and,
            when training begins, a model without variance layers or subclassed.
    """

    def __init__(
        self,
        x,
        y,
        samples: int = 20,
        predictors=PREDICTORS,
        metrics=("accuracy", "nll", "ece"),
        every: int = 1,
        from_logits: bool = False,
        batch_size: int = 256,
    ):
        super().__init__()
        check_samples(samples)
        _check_names("predictors", predictors, PREDICTORS)
        _check_names("metrics", metrics, METRICS)
        if len(x) != len(y):
            raise ValueError(
                f"Argument `y` must have a row for each of the {len(x)} rows of `x`. "
                f"Received: y with {len(y)} rows"
            )
        if not isinstance(every, int) or every < 1:
            raise ValueError(
                f"Argument `every` must be an integer ≥ 1. Received: every={every!r}"
            )
        self.x, self.y = x, np.reshape(y, len(y))
        self.samples = samples
        self.predictors = predictors
        self.metrics = metrics
        self.every = every
        self.from_logits = from_logits
        self.batch_size = batch_size
        self._compared = None

    def on_train_begin(self, logs=None):
        find_variance_layers(self.model)
        check_functional(self.model)
        self._compared = None

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every or logs is None:
            return
        if self._compared is None:  # the model is built by now
            self._compared = _Compared(
                self.model, self.predictors, self.samples, self.from_logits
            )
        predictions = self._compared.predict(self.x, self.batch_size, verbose=0)
        for predictor, p in predictions.items():
            for metric in self.metrics:
                logs[f"val_{predictor}_{metric}"] = float(METRICS[metric](self.y, p))


class _Compared(keras.Model):
    """A dict of class probabilities, by predictor."""

    def __init__(self, model, predictors, samples, from_logits):
        super().__init__(name="compared")
        self.from_logits = from_logits
        self.prefix, suffix = split_prefix(model)
        make = {
            "sample": lambda: ensemble(suffix, 1),
            "mean": lambda: propagate_mean(suffix),
            "ensemble": lambda: ensemble(suffix, samples),
            "zero_mean": lambda: zero_mean(suffix),
        }
        with warnings.catch_warnings():  # that the mean is zero is to be shown here
            warnings.simplefilter("ignore", UserWarning)
            self.models = {name: make[name]() for name in predictors}

    def call(self, inputs):
        features = self.prefix(inputs)
        outputs = {
            name: ops.cast(model(features), "float32")
            for name, model in self.models.items()
        }
        if self.from_logits:
            outputs = {name: probabilities(each) for name, each in outputs.items()}
        return {
            name: ops.mean(each, axis=1) if name in ("sample", "ensemble") else each
            for name, each in outputs.items()
        }


def _check_names(argument, names, known):
    if isinstance(names, str) or not names or not set(names) <= set(known):
        raise ValueError(
            f"Argument `{argument}` must be a list of some of {list(known)}. "
            f"Received: {argument}={names!r}"
        )
