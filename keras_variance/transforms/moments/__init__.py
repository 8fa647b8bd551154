"""How mean and variance of an activation go through layers.

A rule a layer or activation function: `moment_rule` registers more.
"""

from keras_variance.transforms.moments import (
    activations,
    heads,
    linear,
    merging,
    pooling,
)
from keras_variance.transforms.moments.rules import (
    Moments,
    find_rule,
    moment_rule,
    supported,
)

__all__ = [
    "Moments",
    "activations",
    "find_rule",
    "heads",
    "linear",
    "merging",
    "moment_rule",
    "pooling",
    "supported",
]
