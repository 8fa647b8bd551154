"""Metrics of each class against the rest, for `compile(metrics=[...])`."""

import keras
from keras import ops

from keras_variance import checks
from keras_variance.metrics.calibration import classes_of
from keras_variance.types import DType


class Classwise(keras.metrics.Metric):
    """Base: sums over examples, for each class k and each bin b of its probability.

    Bins are ((b − 1)/B, b/B]. Each example is in one bin for each class.

    Call arguments:
        y_true: Integer labels, (batch,) or (batch, 1), or one-hot, (batch, classes).
        y_pred: Probabilities, or logits, (batch, classes).
        sample_weight: Weights of the examples, (batch,) or (batch, 1). Default 1.
    """

    _direction = "down"  # so that EarlyStopping knows what is better

    def __init__(self, classes, bins, from_logits, name, dtype):
        classes = checks.integer("classes", classes, minimum=2)
        bins = checks.integer("bins", bins, minimum=1)
        from_logits = checks.flag("from_logits", from_logits)
        super().__init__(name=name, dtype=dtype)
        self.classes, self.bins, self.from_logits = classes, bins, from_logits
        self.weight, self.label, self.probability, self.squared_error = (
            self.add_variable((classes, bins), "zeros", self.dtype, name=name)
            for name in ("weight", "label", "probability", "squared_error")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        y, p = classes_of(y_true, y_pred, self.from_logits, self.dtype)
        if p.shape[1] != self.classes:
            raise ValueError(
                f"Argument `y_pred` must have shape (batch, {self.classes}). "
                f"Received: y_pred.shape={tuple(p.shape)}"
            )
        index = ops.clip(ops.ceil(p * self.bins) - 1, 0, self.bins - 1)
        inside = ops.one_hot(ops.cast(index, "int32"), self.bins, dtype=self.dtype)
        weight = 1 if sample_weight is None else sample_weight
        weight = ops.reshape(ops.convert_to_tensor(weight, self.dtype), (-1, 1, 1))
        weight = weight * inside  # (batch, classes, bins)
        self.weight.assign_add(ops.sum(weight, axis=0))
        for sums, values in (
            (self.label, y),
            (self.probability, p),
            (self.squared_error, ops.square(p - y)),
        ):
            sums.assign_add(ops.sum(weight * values[:, :, None], axis=0))

    def _examples(self):
        """Their weight, W; 1 if there are none."""
        total = ops.sum(self.weight) / self.classes
        return ops.where(total == 0, ops.ones_like(total), total)

    def get_config(self):
        names = ("classes", "bins", "from_logits")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_variance")
class ClasswiseCalibrationError(Classwise):
    """Classwise expected calibration error: that of every class's probability.

        cwECE = 1/K Σ_k Σ_b W_kb/W |ȳ_kb − p̄_kb|

    with the weight W_kb, the share ȳ_kb of class k and its average probability p̄_kb of
    the examples whose p_k is in bin b. `ExpectedCalibrationError` looks only at the
    class that is predicted.

    Call arguments:
        y_true: Integer labels, (batch,) or (batch, 1), or one-hot, (batch, classes).
        y_pred: Probabilities, or logits, (batch, classes).
        sample_weight: Weights of the examples, (batch,) or (batch, 1). Default 1.

    Args:
        classes: Integer ≥ 2, the number of classes K.
        bins: Positive integer, the number of bins B.
        from_logits: Whether `y_pred` is logits.
        name: Name of the metric.
        dtype: Data type of state and result. Defaults to `keras.config.floatx()`.

    Raises:
        ValueError: For numbers out of range and, when called, for other shapes.

    Example:

    >>> metric = ClasswiseCalibrationError(classes=2)
    >>> float(metric([0, 1], [[0.75, 0.25], [0.5, 0.5]]))  # (1/4 + 1/2) / 2
    0.375

    Reference: Kull et al., Beyond Temperature Scaling
    (https://arxiv.org/abs/1910.12656), equation 2.
    """

    def __init__(
        self,
        classes: int,
        bins: int = 15,
        from_logits: bool = False,
        name: str | None = "classwise_ece",
        dtype: DType = None,
    ):
        super().__init__(classes, bins, from_logits, name, dtype)

    def result(self):
        gap = ops.sum(ops.abs(self.label - self.probability))
        return gap / (self.classes * self._examples())


@keras.saving.register_keras_serializable("keras_variance")
class BrierDecomposition(Classwise):
    """Brier score = reliability − resolution + uncertainty.

        reliability = Σ_kb W_kb/W (p̄_kb − ȳ_kb)²
        uncertainty = Σ_k ȳ_k (1 − ȳ_k)
        resolution  = Σ_kb W_kb/W (ȳ_kb − ȳ_k)² + within-bin terms

    in the notation of `ClasswiseCalibrationError`, ȳ_k the share of class k. A
    calibrated model has reliability 0; one that knows only the shares of the classes
    has resolution 0. Probabilities of a bin differ: the within-bin terms, their
    covariance with the labels (twice) minus their variance, make the sum exact. They
    vanish if the probabilities of a bin are equal.

    Call arguments:
        y_true: Integer labels, (batch,) or (batch, 1), or one-hot, (batch, classes).
        y_pred: Probabilities, or logits, (batch, classes).
        sample_weight: Weights of the examples, (batch,) or (batch, 1). Default 1.

    Args:
        classes, bins, from_logits, name, dtype: As for `ClasswiseCalibrationError`.

    Returns:
        Its `result()` is a dict of scalars, `reliability`, `resolution` and
        `uncertainty`.

    Raises:
        ValueError: As `ClasswiseCalibrationError`.

    Example:

    >>> metric = BrierDecomposition(classes=2)
    >>> parts = metric([0, 0, 0, 1], [[0.5, 0.5]] * 4)
    >>> {name: float(value) for name, value in parts.items()}
    {'reliability': 0.125, 'resolution': 0.0, 'uncertainty': 0.375}

    References: Murphy, A New Vector Partition of the Probability Score, 1973;
    Stephenson, Coelho & Jolliffe, Two Extra Components in the Brier Score
    Decomposition, 2008, equation 9 (within-bin terms).
    """

    def __init__(
        self,
        classes: int,
        bins: int = 15,
        from_logits: bool = False,
        name: str | None = "brier_decomposition",
        dtype: DType = None,
    ):
        super().__init__(classes, bins, from_logits, name, dtype)

    def result(self):
        examples = self._examples()
        gap = ops.square(self.probability - self.label)
        reliability = ops.sum(ops.divide_no_nan(gap, self.weight)) / examples
        share = ops.sum(self.label, axis=1) / examples
        uncertainty = ops.sum(share * (1 - share))
        brier = ops.sum(self.squared_error) / examples
        return {
            "reliability": reliability,
            "resolution": reliability + uncertainty - brier,
            "uncertainty": uncertainty,
        }
