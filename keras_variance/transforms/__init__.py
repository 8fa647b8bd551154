from keras_variance.transforms import moments
from keras_variance.transforms.average import average
from keras_variance.transforms.draw import draw
from keras_variance.transforms.ensemble import ensemble
from keras_variance.transforms.means import propagate_mean, zero_mean
from keras_variance.transforms.moments.propagate import propagate_moments
from keras_variance.transforms.predictive import predictive
from keras_variance.transforms.replace import from_deterministic
from keras_variance.transforms.shrink import (
    ChannelwiseStep,
    ShrinkStep,
    shrink,
    shrink_report,
    shrink_rule,
)

__all__ = [
    "ChannelwiseStep",
    "ShrinkStep",
    "average",
    "draw",
    "ensemble",
    "from_deterministic",
    "moments",
    "predictive",
    "propagate_mean",
    "propagate_moments",
    "shrink",
    "shrink_report",
    "shrink_rule",
    "zero_mean",
]
