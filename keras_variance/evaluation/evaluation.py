"""`evaluate`: all measures of all predictors of a model, side by side."""

import random
from collections.abc import Sequence

import keras
from keras import ops, tree

from keras_variance import checks
from keras_variance.calibration.common import ACTIVATIONS, labels_of, one_output
from keras_variance.calibration.temperature import by_class, fit
from keras_variance.evaluation import measures
from keras_variance.evaluation.predictors import of_model
from keras_variance.evaluation.report import Evaluation
from keras_variance.inference import processes
from keras_variance.inference.data import check_inputs
from keras_variance.inference.labels import Labels, masks, resolve_labelled, unpadded
from keras_variance.inference.predict import (
    Prediction,
    kept,
    moment_predict,
    predict,
    predictions_of,
)
from keras_variance.layers.paths import find_variance_layers
from keras_variance.likelihoods import Classification, Gaussian
from keras_variance.random import derive, seeded
from keras_variance.types import AnyLikelihood, Arrays

PREDICTORS = ("sample", "means", "samples", "moments")


def evaluate(
    model: keras.Model,
    x: Arrays,
    y: Arrays,
    likelihood: AnyLikelihood = "auto",
    ood: Arrays | None = None,
    calibration: tuple | None = None,
    samples: int = 20,
    predictors: Sequence[str] = PREDICTORS,
    batch_size: int = 256,
    seed: int | None = None,
) -> Evaluation:
    """Accuracy, calibration and uncertainty of a model, by each of its predictors.

    | predictor    | predicts with                                            |
    |--------------|----------------------------------------------------------|
    | `sample`     | one sample of the weights                                |
    | `means`      | the weights at their means                               |
    | `samples`    | the average over samples                                 |
    | `moments`    | one pass of means and variances, without a sample        |
    | `calibrated` | averaged logits at a temperature fitted to `calibration` |

    The first three are one pass over the data.

    Args:
        model: A built Sequential or Functional model with variance layers and one
            output.
        x: Held-out arrays, (examples, …), in the structure of the model's inputs.
        y: Labels: integers or one-hot for categorical outputs, 0 or 1 for binary ones,
            numbers for Gaussian ones. What the output's mask leaves out does not count.
        likelihood: As for `mc_predict`: of classes, or Gaussian. Numbers are measured
            under the normal distribution with each predictor's mean and total
            variance.
        ood: Arrays as `x`, out of distribution, or None. For classes.
        calibration: Held-out arrays and labels (x, y), neither the data of training nor
            of this evaluation, or None. For classes.
        samples: Integer ≥ 1, the number of samples.
        predictors: Some of the first four. Leave `"moments"` out for a model with a
            layer that has no rule.
        batch_size: Examples a step.
        seed: Integer that makes the result repeatable.

    Returns:
        An `Evaluation`: print it, or write it by `to_html(path)`.

    Raises:
        ValueError: For data that does not fit, a model of several outputs or without
            variance layers, another likelihood, or as `temperature_scaling`.
        RuntimeError: In a computation of several processes.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential([keras.Input((4,)), VarianceDense(3, "softmax")])
    >>> x, y = np.random.normal(size=(50, 4)), np.arange(50) % 3
    >>> evaluation = evaluate(model, x, y, ood=3 * x)
    >>> sorted(evaluation.measures)
    ['means', 'moments', 'sample', 'samples']
    """
    processes.check_one("evaluate")
    one_output(model)
    find_variance_layers(model)
    samples = checks.integer("samples", samples, minimum=1)
    checks.some_of("predictors", predictors, PREDICTORS)
    batch_size, seed = checks.batch_size(batch_size) or 32, checks.seed(seed)
    (likelihood,) = tree.flatten(resolve_labelled(model, likelihood))
    kinds = (Classification, Gaussian)
    known = isinstance(likelihood, kinds)
    checks.require(known, "likelihood", "of classes, or Gaussian", likelihood)
    is_classes = isinstance(likelihood, Classification)
    labels = Labels(model, x, y, likelihood, batch_size)
    if ood is not None:
        checks.require(is_classes, "ood", "None for numbers", ood)
        check_inputs(model, ood, "ood")
    if calibration is not None:
        calibration = _calibration(model, calibration, likelihood, batch_size)
    run = _Run(model, samples, likelihood, batch_size, predictors, seed)
    inside, logits = run.predictions(x)
    outside, logits_out = (None, None) if ood is None else run.predictions(ood)
    temperature = None
    if calibration is not None:
        temperature = run.temperature(*calibration)
        inside["calibrated"] = run.calibrated(logits, temperature)
        if ood is not None:
            outside["calibrated"] = run.calibrated(logits_out, temperature)
    measure = measures.of_classes if is_classes else measures.of_numbers
    mask = labels.masks.get(0)
    mask_out = None if ood is None else masks(model, ood, batch_size).get(0)
    found, details = {}, {}
    for name, prediction in inside.items():
        ((_, _, y_kept, _),) = labels.beside([prediction.mean])
        prediction = _unpadded(mask, prediction)
        found[name], details[name] = measure(likelihood, y_kept, prediction)
        if outside is not None:
            prediction_out = _unpadded(mask_out, outside[name])
            found[name] |= measures.of_scores(prediction, prediction_out)
            details[name]["entropy"] = prediction.entropy, prediction_out.entropy
    return Evaluation(labels.examples, samples, temperature, found, details)


def _unpadded(mask, prediction):
    return Prediction(*(unpadded(mask, values) for values in prediction))


def _calibration(model, calibration, likelihood, batch_size):
    """Data and its `Labels`."""
    is_pair = isinstance(calibration, list | tuple) and len(calibration) == 2
    checks.require(is_pair, "calibration", "a pair (x, y), or None", calibration)
    is_classes = isinstance(likelihood, Classification)
    checks.require(is_classes, "calibration", "None for numbers", calibration)
    return calibration[0], Labels(model, *calibration, likelihood, batch_size)


class _Run:
    """The predictions of one call of `evaluate`."""

    def __init__(self, model, samples, likelihood, batch_size, names, seed):
        self.model, self.likelihood, self.names = model, likelihood, names
        self.batch_size = batch_size
        self.seed = random.randrange(2**31) if seed is None else seed
        self.predictor = kept(model, of_model, samples=samples, likelihood=likelihood)
        self.calls = 0

    def statistics(self, x):
        self.calls += 1
        with seeded(self.predictor, derive(self.seed, self.calls)):
            return predict(self.predictor, x, self.batch_size, verbose=0)

    def predictions(self, x):
        """{predictor: `Prediction`}, and logits averaged over samples."""
        found = self.statistics(x)
        logits = found["samples"].get("logits")
        found = predictions_of(found, self.likelihood)
        if "moments" in self.names:
            options = {"likelihood": self.likelihood, "verbose": 0}
            found["moments"] = moment_predict(self.model, x, self.batch_size, **options)
        for name in ("sample", "means"):  # one prediction cannot disagree
            found[name] = found[name]._replace(mutual_information=None)
        return {name: found[name] for name in PREDICTORS if name in self.names}, logits

    def temperature(self, x, labels):
        logits = self.statistics(x)["samples"]["logits"]
        ((_, _, y, logits),) = labels.beside([logits])
        y = labels_of(self.likelihood, y, logits)
        return fit(by_class(logits[..., None, :], self.likelihood), y)

    def calibrated(self, logits, temperature):
        activation = keras.activations.get(ACTIVATIONS[type(self.likelihood)])
        p = ops.convert_to_numpy(
            activation(ops.convert_to_tensor(logits / temperature))
        )
        likelihood = type(self.likelihood)()
        entropy = ops.convert_to_numpy(likelihood.entropy(ops.convert_to_tensor(p)))
        return Prediction(p, None, entropy, None)
