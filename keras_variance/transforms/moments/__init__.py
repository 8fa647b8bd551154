"""How mean and variance of an activation go through layers.

A rule a layer or activation function: `moment_rule` registers more.
"""

from keras_variance.transforms.moments import (  # noqa: F401 (they register rules)
    activations,
    attention,
    heads,
    linear,
    merging,
    normalization,
    pooling,
)
from keras_variance.transforms.moments.activations import quadrature
from keras_variance.transforms.moments.rules import (
    Moments,
    find_rule,
    moment_rule,
    supported,
)

__all__ = [
    "Moments",
    "find_rule",
    "heads",
    "moment_rule",
    "quadrature",
    "supported",
]
