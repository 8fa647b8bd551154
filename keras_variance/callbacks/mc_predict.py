"""Monte Carlo metrics after each epoch."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops, tree

from keras_variance import checks
from keras_variance.inference import processes
from keras_variance.inference.data import check_examples
from keras_variance.inference.labels import Labels, resolve_labelled
from keras_variance.inference.log_likelihoods import log_likelihood
from keras_variance.layers.paths import find_variance_layers
from keras_variance.metrics import BrierScore, ExpectedCalibrationError
from keras_variance.random import Stream
from keras_variance.transforms.means import run
from keras_variance.transforms.outputs import for_outputs, output_names
from keras_variance.transforms.predictives import Predictive
from keras_variance.transforms.walk import (
    check_visible,
    functional,
    hides,
    is_functional,
)
from keras_variance.types import AnyLikelihood, Arrays

PREDICTORS = ("sample", "mean", "ensemble", "zero_mean")


def _streaming(metric):
    return lambda likelihood, y, p: metric()(*likelihood.as_classes(y, p))


METRICS = {
    "accuracy": lambda likelihood, y, p: likelihood.accuracy(y, p),
    "rmse": lambda likelihood, y, p: likelihood.rmse(y, likelihood.location(p)),
    "nll": lambda likelihood, y, p: -np.mean(likelihood.log_likelihood(y, p)),
    "ece": _streaming(ExpectedCalibrationError),
    "brier": _streaming(BrierScore),
}
DEFAULTS = ("accuracy", "rmse", "nll", "ece")


class MCPredict(keras.callbacks.Callback):
    """Compares ways to predict with a stochastic model, epoch by epoch.

    Example:

    ```python
    mc = kv.callbacks.MCPredict(x_test, y_test)
    stop = keras.callbacks.EarlyStopping("val_ensemble_nll", mode="min")
    model.fit(x, y, epochs=100, callbacks=[mc, stop])
    ```

    Puts `val_{predictor}_{metric}` into the logs, or
    `val_{predictor}_{output}_{metric}` if several outputs have a likelihood:
    `History`, the progress bar, and callbacks listed after it see them. Predictors are
    `sample` (one sample of the weights), `mean` (weights at their means), `ensemble`
    (the average over samples) and `zero_mean` (one sample, means dropped).
    What they have in common, up to the first variance layer, is computed once.

    Args:
        x: Arrays, (examples, …), in the structure of the model's inputs.
        y: Labels, in the structure of the model's outputs: integers or one-hot for
            categorical outputs, 0 or 1 for binary ones, numbers for Gaussian ones.
            Outputs without a likelihood, and what an output's mask leaves out, do not
            count.
        samples: Integer ≥ 1, samples of the ensemble.
        predictors: Some of the four.
        metrics: Some of `"accuracy"`, `"ece"` (15 bins) and `"brier"`, of classes,
            `"rmse"`, of numbers, and `"nll"` (nats per label), of both. Defaults to
            all but `"brier"`; each output has those of what it is. The `"nll"` of
            numbers is that of the mixture, as `log_likelihood`, which draws samples of
            its own.
        every: Integer ≥ 1: evaluate after every so many epochs.
        likelihood: As for `mc_predict`.
        batch_size: Examples a step.

    Raises:
        ValueError: For unknown predictors or metrics, `y` of another length and,
            when training begins, a model without variance layers, with some that
            cannot be inspected, or without a likelihood, data that does not fit it,
            metrics that no output has, and a `sample` or an `ensemble` of numbers
            without a variance.
        RuntimeError: When training begins, in a computation of several processes.
    """

    def __init__(
        self,
        x: Arrays,
        y: Arrays,
        samples: int = 20,
        predictors: Sequence[str] = PREDICTORS,
        metrics: Sequence[str] | None = None,
        every: int = 1,
        likelihood: AnyLikelihood = "auto",
        batch_size: int = 256,
    ):
        super().__init__()
        check_examples(x, y)
        self.x, self.y = x, y
        self.samples = checks.integer("samples", samples, minimum=1)
        self.predictors = checks.some_of("predictors", predictors, PREDICTORS)
        if metrics is not None:
            checks.some_of("metrics", metrics, METRICS)
        self.metrics = metrics
        self.every = checks.integer("every", every, minimum=1)
        self.likelihood = likelihood
        self.batch_size = checks.batch_size(batch_size)
        self._labels = self._compared = None

    def on_train_begin(self, logs=None):
        self._labels = self._compared = None
        processes.check_one("MCPredict")
        find_variance_layers(self.model)
        if self.model.built:
            self._compare()

    def _compare(self):
        if is_functional(self.model):
            check_visible(self.model, hides)
        likelihood = resolve_labelled(self.model, self.likelihood)
        options = likelihood, self.batch_size
        self._labels = Labels(self.model, self.x, self.y, *options)
        processes.check_batches(self._labels.examples, self.batch_size or 32)
        known = {x for each in tree.flatten(likelihood) if each for x in each.measures}
        expected = f"some of {sorted(known)} for {likelihood}"
        fits = self.metrics is None or {*self.metrics} <= known
        checks.require(fits, "metrics", expected, self.metrics)
        compared = Compared(self.model, likelihood, self.predictors, self.samples)
        compared.check()  # that what it asks for exists
        if not is_functional(self.model):
            compared(tree.map_structure(lambda x: ops.convert_to_tensor(x[:1]), self.x))
        self._compared = compared

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every or logs is None:
            return
        if self._compared is None:  # the model is built by now
            self._compare()
        outputs = self._compared.predict(self.x, self.batch_size, verbose=0)
        names = self._output_names()
        for predictor, predictions in outputs.items():
            each = self._labels.beside(predictions)
            mixture = self._mixture() if predictor == "ensemble" else {}
            for number, likelihood, y, p in each:
                name = f"{names[number]}_" if len(each) > 1 else ""
                for metric in self._metrics(likelihood):
                    value = float(METRICS[metric](likelihood, y, p))
                    if metric == "nll":
                        value = mixture.get(number, value)
                    logs[f"val_{predictor}_{name}{metric}"] = value

    def _output_names(self):
        if is_functional(self.model):
            return output_names(functional(self.model))
        return [str(k) for k, _ in enumerate(tree.flatten(self._compared.likelihood))]

    def _metrics(self, likelihood):
        names = self.metrics or DEFAULTS
        return [name for name in names if name in likelihood.measures]

    def _mixture(self):
        """{output's number: NLL} of averages that no parameters stand for."""
        likelihood = tree.flatten(self._compared.likelihood)
        numbers = [
            k
            for k, each in enumerate(likelihood)
            if each is not None and not each.linear and "nll" in self._metrics(each)
        ]
        if not numbers:
            return {}
        options = self.samples, self._compared.likelihood, self.batch_size
        values = log_likelihood(self.model, self.x, self.y, *options, verbose=0)
        values = tree.flatten(values)
        of_labels = self._labels.unpadded
        return {k: -float(np.mean(of_labels(k, values[k]))) for k in numbers}


class Compared(Predictive):
    """Predictions by each predictor: a dict of flat lists, one for each output."""

    def __init__(self, model, likelihood, predictors, samples):
        super().__init__(model, samples, likelihood, name="compared")
        self.predictors = predictors

    def call(self, inputs, training=None, mask=None):
        draws = self.draws(inputs, training, mask)

        def mean(layer, *args, **kwargs):
            return layer.mean_outputs(*args, **kwargs)

        def zero_mean(layer, *args, **kwargs):
            seed = Stream(self.seed_generator.next())
            return layer.zero_mean_outputs(seed, *args, **kwargs)

        make = {
            "sample": lambda: self.averages(draws.of(1)),
            "mean": lambda: self._predictions(run(draws.program, mean)),
            "ensemble": lambda: self.averages(draws),
            "zero_mean": lambda: self._predictions(run(draws.program, zero_mean)),
        }
        return {name: make[name]() for name in self.predictors}

    def _predictions(self, outputs):
        likelihood = for_outputs(self.likelihood, outputs)
        outputs = [ops.cast(x, "float32") for x in outputs]
        return [
            x if each is None else each.predictions(x)
            for x, each in zip(outputs, likelihood, strict=True)
        ]

    def compute_output_spec(self, inputs, training=None, mask=None):
        specs = tree.flatten(self.model.compute_output_spec(inputs))
        return {
            name: [keras.KerasTensor(x.shape, "float32") for x in specs]
            for name in self.predictors
        }
