"""Operators of tensors in Functional models, such as `x + y` and `ops.relu(x)`.

They have no public names: this is the one place that knows Keras's.
"""

from keras.src.ops.nn import Relu
from keras.src.ops.numpy import Add, Maximum, Minimum, Multiply, Subtract

__all__ = ["Add", "Maximum", "Minimum", "Multiply", "Relu", "Subtract"]
