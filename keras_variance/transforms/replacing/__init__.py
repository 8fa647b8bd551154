"""`replace`: variance layers for the stock layers of a model."""

from keras_variance.transforms.replacing.transform import replace, replace_report

__all__ = ["replace", "replace_report"]
