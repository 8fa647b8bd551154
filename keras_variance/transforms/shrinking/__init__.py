"""`shrink`: a smaller model with the same function."""

from keras_variance.transforms.shrinking.steps import (
    ChannelwiseStep,
    ShrinkStep,
    shrink_rule,
)
from keras_variance.transforms.shrinking.transform import shrink, shrink_report

__all__ = ["ChannelwiseStep", "ShrinkStep", "shrink", "shrink_report", "shrink_rule"]
