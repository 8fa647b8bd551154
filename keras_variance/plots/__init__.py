"""Pictures. They need matplotlib: `pip install keras_variance[plots]`."""

from keras_variance.plots.classes import (
    entropy_histogram,
    reliability_diagram,
    risk_coverage,
)
from keras_variance.plots.numbers import predictive_band
from keras_variance.plots.sparsity import sparsity_curve
from keras_variance.plots.training import activations_by_class, phase_transition

__all__ = [
    "activations_by_class",
    "entropy_histogram",
    "phase_transition",
    "predictive_band",
    "reliability_diagram",
    "risk_coverage",
    "sparsity_curve",
]
