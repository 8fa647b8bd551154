"""Metrics of predicted class probabilities, for `compile(metrics=[...])`."""

from keras_variance.metrics.calibration import BrierScore, ExpectedCalibrationError

__all__ = ["BrierScore", "ExpectedCalibrationError"]
