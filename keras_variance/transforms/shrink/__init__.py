"""`shrink`: a smaller model with the same function."""

from keras_variance.transforms.shrink.shrink import shrink, shrink_report

__all__ = ["shrink", "shrink_report"]
