from keras_variance.transforms import moments
from keras_variance.transforms.averaging import average
from keras_variance.transforms.deep_ensembles import deep_ensemble
from keras_variance.transforms.draws import draw
from keras_variance.transforms.ensembles import ensemble
from keras_variance.transforms.means import propagate_mean, zero_mean
from keras_variance.transforms.moments.propagate import propagate_moments
from keras_variance.transforms.predictives import predictive
from keras_variance.transforms.replacing import replace, replace_report
from keras_variance.transforms.shrinking import (
    ChannelwiseStep,
    ShrinkStep,
    shrink,
    shrink_report,
    shrink_rule,
)

from_deterministic = replace  # its name until 2.0, which is deprecated

__all__ = [
    "ChannelwiseStep",
    "ShrinkStep",
    "average",
    "deep_ensemble",
    "draw",
    "ensemble",
    "from_deterministic",
    "moments",
    "predictive",
    "propagate_mean",
    "propagate_moments",
    "replace",
    "replace_report",
    "shrink",
    "shrink_report",
    "shrink_rule",
    "zero_mean",
]
