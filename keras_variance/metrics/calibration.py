"""Metrics of predicted class probabilities, for `compile(metrics=[...])`."""

import keras
import numpy as np
from keras import ops

from keras_variance import checks
from keras_variance.types import DType


@keras.saving.register_keras_serializable("keras_variance")
class ExpectedCalibrationError(keras.metrics.Metric):
    """Expected calibration error: the mean gap of confidence and accuracy.

    A row's confidence is the probability of the predicted class, max_k p_k. Rows
    fall into B bins of confidence, ((b − 1)/B, b/B], and

        ECE = Σ_b W_b/W |accuracy_b − confidence_b|,

    W_b the weight of the rows in bin b, W that of all rows: 0 if, of the
    predictions made with 80 % confidence, 80 % are right.

    Call arguments:
        y_true: Integer labels, (batch,) or (batch, 1), or one-hot, (batch, classes).
        y_pred: Probabilities, or logits, (batch, classes).
        sample_weight: Weights of the rows, (batch,) or (batch, 1). Default 1.

    Args:
        bins: Positive integer, B.
        from_logits: Whether `y_pred` is logits.
        name: Name of the metric.
        dtype: Data type of state and result. Defaults to `keras.config.floatx()`,
            float32 also under a mixed policy.

    Raises:
        ValueError: For `bins` that is no positive integer, `from_logits` that is no
            bool or, when called, for other shapes.

    Example:

    >>> ece = ExpectedCalibrationError()
    >>> y_pred = [[0.75, 0.25], [0.75, 0.25], [0.75, 0.25], [0.0, 1.0]]
    >>> float(ece([0, 0, 1, 1], y_pred))  # 3/4 (3/4 − 2/3) + 1/4 (1 − 1)
    0.0625

    Reference: On Calibration of Modern Neural Networks
    (https://arxiv.org/abs/1706.04599), equation 3; Naeini, Cooper, Hauskrecht:
    Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    """

    _direction = "down"  # so that EarlyStopping knows what is better

    def __init__(
        self,
        bins: int = 15,
        from_logits: bool = False,
        name: str | None = "ece",
        dtype: DType = None,
    ):
        bins = checks.integer("bins", bins, minimum=1)
        from_logits = checks.flag("from_logits", from_logits)
        super().__init__(name=name, dtype=dtype)
        self.bins = bins
        self.from_logits = from_logits
        self.weight, self.correct, self.confidence = (
            self.add_variable((self.bins,), "zeros", self.dtype, name=name)
            for name in ("weight", "correct", "confidence")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = classes_of(y_true, y_pred, self.from_logits, self.dtype)
        # A maximum may pass over NaN, and a row that is NaN is in no bin
        is_nan = ops.any(ops.isnan(y_pred), axis=-1)
        confidence = ops.where(is_nan, np.nan, ops.max(y_pred, axis=-1))
        predicted = ops.argmax(y_pred, axis=-1)
        predicted = ops.one_hot(predicted, y_pred.shape[-1], dtype=self.dtype)
        correct = ops.sum(predicted * y_true, axis=-1)
        weight = 1 if sample_weight is None else sample_weight
        weight = ops.reshape(ops.convert_to_tensor(weight, self.dtype), (-1, 1))
        weight = weight * self._membership(confidence)
        self.weight.assign_add(ops.sum(weight, axis=0))
        self.correct.assign_add(ops.sum(weight * correct[:, None], axis=0))
        self.confidence.assign_add(ops.sum(weight * confidence[:, None], axis=0))

    def result(self):
        # W_b |accuracy_b − confidence_b|, also for an empty bin
        gap = ops.sum(ops.abs(self.correct - self.confidence))
        weight = ops.sum(self.weight)
        return gap / ops.where(weight == 0, ops.ones_like(weight), weight)

    def _membership(self, confidence):
        """1 where a row is in a bin, else 0: (batch, bins)."""
        index = ops.clip(ops.ceil(confidence * self.bins) - 1, 0, self.bins - 1)
        return ops.one_hot(ops.cast(index, "int32"), self.bins, dtype=self.dtype)

    def get_config(self):
        config = {"bins": self.bins, "from_logits": self.from_logits}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("keras_variance")
class BrierScore(keras.metrics.Mean):
    """Brier score: the mean squared error of class probabilities.

        Brier = mean over rows of Σ_k (p_k − y_k)²,

    y one-hot: 0 is best, 2 worst. (Over two classes it is twice the score that
    looks at one of them only.)

    Call arguments:
        y_true: Integer labels, (batch,) or (batch, 1), or one-hot, (batch, classes).
        y_pred: Probabilities, or logits, (batch, classes).
        sample_weight: Weights of the rows, (batch,) or (batch, 1). Default 1.

    Args:
        from_logits: Whether `y_pred` is logits.
        name: Name of the metric.
        dtype: Data type of state and result. Defaults to `keras.config.floatx()`,
            float32 also under a mixed policy.

    Raises:
        ValueError: When called, for other shapes.

    Example:

    >>> brier = BrierScore()
    >>> float(brier([0, 1], [[0.75, 0.25], [0.5, 0.5]]))  # mean of 1/8 and 1/2
    0.3125

    Reference: Brier: Verification of Forecasts Expressed in Terms of Probability,
    Monthly Weather Review 78, 1950.
    """

    _direction = "down"

    def __init__(
        self, from_logits: bool = False, name: str | None = "brier", dtype: DType = None
    ):
        from_logits = checks.flag("from_logits", from_logits)
        super().__init__(name=name, dtype=dtype)
        self.from_logits = from_logits

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = classes_of(y_true, y_pred, self.from_logits, self.dtype)
        error = ops.sum(ops.square(y_pred - y_true), axis=-1)
        super().update_state(error, sample_weight)

    def get_config(self):
        return {**super().get_config(), "from_logits": self.from_logits}


def classes_of(y_true, y_pred, from_logits, dtype):
    """One-hot labels and probabilities, both (batch, classes)."""
    y_true = ops.convert_to_tensor(y_true)
    y_pred = ops.convert_to_tensor(y_pred, dtype)
    true_shape, shape = tuple(y_true.shape), tuple(y_pred.shape)
    if len(shape) != 2 or shape[1] in (None, 1):
        raise ValueError(
            "Argument `y_pred` must have shape (batch, classes), with two classes or "
            f"more. Received: y_pred.shape={shape}"
        )
    if len(true_shape) == 1 or true_shape[1:] == (1,):
        labels = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        # Zeros for what is no class: PyTorch's `one_hot` refuses it
        y_true = labels[:, None] == ops.arange(shape[1], dtype="int32")
    elif true_shape[1:] != shape[1:]:
        raise ValueError(
            "Argument `y_true` must have shape (batch,), (batch, 1) or (batch, "
            f"{shape[1]}), as `y_pred`. Received: y_true.shape={true_shape}"
        )
    y_pred = ops.softmax(y_pred) if from_logits else y_pred
    return ops.cast(y_true, dtype), y_pred
