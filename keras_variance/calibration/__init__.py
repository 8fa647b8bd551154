"""Calibration: functions from a Keras model, and held-out data, to a Keras model."""

from keras_variance.calibration.conformal_prediction import conformal
from keras_variance.calibration.ood import ood_score
from keras_variance.calibration.temperature import temperature_scaling

__all__ = ["conformal", "ood_score", "temperature_scaling"]
