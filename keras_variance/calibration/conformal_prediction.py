"""`conformal`: sets and intervals that hold the truth as often as was asked for."""

import math

import keras
import numpy as np
from keras import ops

from keras_variance import checks
from keras_variance.calibration.common import (
    classifier,
    followed_by,
    labels_of,
    one_output,
)
from keras_variance.inference.data import check_examples, check_inputs
from keras_variance.inference.labels import Labels
from keras_variance.inference.predict import predict
from keras_variance.likelihoods import Categorical
from keras_variance.metrics.arrays import array
from keras_variance.metrics.regression import interval, targets
from keras_variance.transforms.masks import check_unmasked
from keras_variance.types import AnyLikelihood, Arrays

SETS = ("lac", "aps", "raps")
INTERVALS = ("absolute_residual", "cqr")


def conformal(
    model: keras.Model,
    x: Arrays,
    y: Arrays,
    alpha: float = 0.1,
    method: str = "lac",
    likelihood: AnyLikelihood = "auto",
    penalty: float = 0.01,
    free_classes: int = 5,
    batch_size: int = 32,
) -> keras.Model:
    """A model of prediction sets or intervals, by split conformal prediction.

    Of n held-out examples and a new one, all exchangeable, the score s(x, y) of the new
    one is at most the k-th smallest of the n, q, with probability k/(n + 1), whatever
    the model: at least 1 − α for k = ⌈(n + 1)(1 − α)⌉, and, without ties, at most
    1 − α + 1/(n + 1). That is an average over examples and held-out data, and no
    promise for a single class or group.

    | method              | score s(x, y)                          | result       |
    |---------------------|----------------------------------------|--------------|
    | `lac`               | 1 − p_y                                | {y: s ≤ q}   |
    | `aps`               | Σ p_c of the classes more probable     | {y: s ≤ q}   |
    | `raps`              | as `aps`, + λ max(rank of y − c, 0)    | {y: s ≤ q}   |
    | `absolute_residual` | abs(y − f)                             | f − q, f + q |
    | `cqr`               | max(l − y, y − u)                      | l − q, u + q |

    All are deterministic. Sets of `lac` are the smallest on average, and may be empty.
    Those of `aps` are larger where the class is hard to predict, and have the most
    probable class at least: if it alone is right more often than 1 − α, coverage is
    higher too (ties at s = 0). `cqr` widens, or
    narrows, the interval (l, u) of two predicted quantiles, which adapts to x.

    Args:
        model: A built Sequential or Functional model of one output, called once: for an
            average over samples give `transforms.average` or `temperature_scaling` of
            it. For sets a classifier, (batch, classes); for `absolute_residual` a
            regression of the targets, (batch, …); for `cqr` a lower and an upper
            quantile of each, (batch, …, 2).
        x: Held-out arrays, (examples, …), in the structure of the model's inputs.
        y: Integer or one-hot labels, or targets, (examples, …).
        alpha: Number in (0, 1), the share of examples that may be missed: 1/α
            examples are needed.
        method: One of the above.
        likelihood: Of a classifier, as for `mc_predict`: categorical.
        penalty, free_classes: λ ≥ 0 and c, of `raps`.
        batch_size: Examples a step.

    Returns:
        A Keras model with the same inputs, weights and losses, that returns a dict:
        of sets `mean`, (batch, classes), the probabilities, and `set`, boolean, (batch,
        classes); of intervals `lower` and `upper`, (batch, …). Several targets of an
        example have each their q and their own guarantee.

    Raises:
        ValueError: For `alpha` or labels out of range, fewer examples than 1/α,
            labels of one class, targets that are NaN, or a model that does not fit.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    >>> x, y = np.random.normal(size=(50, 4)), np.arange(50) % 3
    >>> outputs = conformal(model, x, y, alpha=0.2)(x)
    >>> sorted(outputs), tuple(outputs["set"].shape)
    (['mean', 'set'], (50, 3))

    References: Angelopoulos & Bates, A Gentle Introduction to Conformal Prediction
    (https://arxiv.org/abs/2107.07511), sections 1 and 2; Romano, Patterson & Candès,
    Conformalized Quantile Regression (https://arxiv.org/abs/1905.03222), equation 6;
    Angelopoulos et al. (https://arxiv.org/abs/2009.14193), equations 3 and 4 (`aps` and
    `raps`, here with u = 0 in the place of a random number).
    """
    checks.one_of("method", method, (*SETS, *INTERVALS))
    alpha = checks.number("alpha", alpha, above=0, below=1)
    one_output(model)
    check_unmasked(model, "padding would count as data")
    if method in SETS:
        likelihood = classifier(model, likelihood, Categorical)
        layer = PredictionSet(method, likelihood, penalty, free_classes)
        layer.build(model.outputs[0].shape)
        examples = Labels(model, x, y, likelihood, batch_size).examples
    else:
        layer = PredictionInterval(method)
        y = array("y", y)
        check_inputs(model, x)
        examples = check_examples(x, y)
    enough = examples * alpha >= 1 - 1e-9
    checks.require(
        enough, "alpha", f"1/{examples} at least, for so many examples", alpha
    )
    outputs = predict(model, x, batch_size, verbose=0)
    scores = layer.scores(ops.convert_to_tensor(outputs, "float32"), y)
    known = not np.isnan(scores).any()
    checks.require(known, "model", "a model whose predictions are not NaN", model)
    result = followed_by(model, layer)
    layer.threshold.assign(threshold(scores, alpha))
    return result


def threshold(scores, alpha):
    """The ⌈(n + 1)(1 − α)⌉-th smallest of n scores, along the first axis.

    Args:
        scores: Array, (n, …), n ≥ 1/α.
        alpha: Number in (0, 1).
    """
    # Less than rounding of the product may add
    rank = math.ceil((len(scores) + 1) * (1 - alpha) - 1e-9)
    return np.partition(scores, rank - 1, axis=0)[rank - 1]


@keras.saving.register_keras_serializable("keras_variance")
class PredictionSet(keras.layers.Layer):
    """The classes whose score is at most a threshold, of a classifier's outputs.

    Args:
        method, likelihood, penalty, free_classes: As for `conformal`.
    """

    def __init__(
        self,
        method="lac",
        likelihood="categorical",
        penalty=0.01,
        free_classes=5,
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.method = checks.one_of("method", method, SETS)
        self.likelihood = likelihood
        self.penalty = checks.number("penalty", penalty, minimum=0)
        self.free_classes = checks.integer("free_classes", free_classes, minimum=0)

    def build(self, input_shape):
        flat = len(input_shape) == 2
        checks.require(
            flat, "model", "a model of outputs (batch, classes)", input_shape
        )
        self.threshold = self.add_weight((), "zeros", trainable=False, name="threshold")

    def call(self, inputs):
        p = self.likelihood.predictions(inputs)
        return {"mean": p, "set": self.class_scores(p) <= self.threshold}

    def class_scores(self, p):
        """The score of each class: a tensor (batch, classes)."""
        if self.method == "lac":
            return 1 - p
        order = ops.argsort(-p, axis=-1)
        rank = ops.argsort(order, axis=-1)  # 0 for the most probable class
        descending = ops.take_along_axis(p, order, axis=-1)
        before = ops.cumsum(descending, axis=-1) - descending
        scores = ops.take_along_axis(before, rank, axis=-1)
        if self.method == "aps":
            return scores
        extra = ops.maximum(rank + 1 - self.free_classes, 0)
        return scores + self.penalty * ops.cast(extra, scores.dtype)

    def scores(self, outputs, y):
        """The score of each example's label: an array (examples,)."""
        p = self.likelihood.predictions(outputs)
        labels = labels_of(self.likelihood, y, ops.convert_to_numpy(p))
        scores = ops.convert_to_numpy(self.class_scores(p))
        return scores[np.arange(len(scores)), labels]

    def get_config(self):
        config = {
            "method": self.method,
            "likelihood": keras.saving.serialize_keras_object(self.likelihood),
            "penalty": self.penalty,
            "free_classes": self.free_classes,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        likelihood = keras.saving.deserialize_keras_object(config["likelihood"])
        return cls(**{**config, "likelihood": likelihood})


@keras.saving.register_keras_serializable("keras_variance")
class PredictionInterval(keras.layers.Layer):
    """Predictions, or intervals, widened by a threshold.

    Args:
        method: `"absolute_residual"` or `"cqr"`.
    """

    def __init__(self, method="absolute_residual", **kwargs):
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.method = checks.one_of("method", method, INTERVALS)

    def build(self, input_shape):
        shape = self._ends(keras.KerasTensor(input_shape))[0].shape
        self.threshold = self.add_weight(
            shape[1:], "zeros", trainable=False, name="threshold"
        )

    def call(self, inputs):
        lower, upper = self._ends(inputs)
        return {"lower": lower - self.threshold, "upper": upper + self.threshold}

    def scores(self, outputs, y):
        """By how much each target is outside of its interval, less than 0 inside: an
        array (examples, …)."""
        lower, upper = self._ends(outputs)
        y = targets(ops.convert_to_tensor(y, "float32"), lower)
        return ops.convert_to_numpy(ops.maximum(lower - y, y - upper))

    def _ends(self, outputs):
        is_point = self.method == "absolute_residual"
        return (outputs, outputs) if is_point else interval(outputs)

    def get_config(self):
        return {**super().get_config(), "method": self.method}
