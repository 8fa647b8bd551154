"""Metrics of predictive distributions: streaming ones, for `compile(metrics=[...])`,
and functions of arrays."""

from keras_variance.metrics.arrays import (
    OODMetrics,
    RiskCoverage,
    accuracy_at_coverage,
    adaptive_calibration_error,
    ood_metrics,
    risk_coverage,
)
from keras_variance.metrics.calibration import BrierScore, ExpectedCalibrationError
from keras_variance.metrics.classwise import (
    BrierDecomposition,
    ClasswiseCalibrationError,
)
from keras_variance.metrics.quantiles import (
    QuantileCalibration,
    ensemble_pit,
    gaussian_pit,
    quantile_calibration,
)
from keras_variance.metrics.regression import (
    EnsembleCRPS,
    GaussianCRPS,
    IntervalCoverage,
    IntervalWidth,
)

__all__ = [
    "BrierDecomposition",
    "BrierScore",
    "ClasswiseCalibrationError",
    "EnsembleCRPS",
    "ExpectedCalibrationError",
    "GaussianCRPS",
    "IntervalCoverage",
    "IntervalWidth",
    "OODMetrics",
    "QuantileCalibration",
    "RiskCoverage",
    "accuracy_at_coverage",
    "adaptive_calibration_error",
    "ensemble_pit",
    "gaussian_pit",
    "ood_metrics",
    "quantile_calibration",
    "risk_coverage",
]
