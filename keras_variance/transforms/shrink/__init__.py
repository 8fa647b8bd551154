"""`shrink`: a smaller model with the same function."""

from keras_variance.transforms.shrink.shrink import shrink, shrink_report
from keras_variance.transforms.shrink.steps import (
    ChannelwiseStep,
    ShrinkStep,
    shrink_rule,
)

__all__ = ["ChannelwiseStep", "ShrinkStep", "shrink", "shrink_report", "shrink_rule"]
