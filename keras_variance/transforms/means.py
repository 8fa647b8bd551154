"""`propagate_mean` and `zero_mean`: one half of what a weight is, without the other."""

import warnings

import keras
from keras import ops

from keras_variance.distributions import posteriors
from keras_variance.random import SeedGenerator, Stream
from keras_variance.transforms.rewrite import View, find_variance_layers, replace_layers


def propagate_mean(model):
    """The weight scaling rule: every weight is replaced by its mean.

    The usual shortcut for test-time averaging. Of a variance layer only the bias
    is left of it, so predictions do not depend on what comes before: then it warns.

    Args:
        model: A built Sequential or Functional model with variance layers.

    Returns:
        A deterministic Keras model with the same inputs and weights.

    Raises:
        ValueError: If the model has no variance layer, or one that can't be seen.

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764): mean
    propagation.
    """
    layers = find_variance_layers(model)
    if all(isinstance(each.posterior, posteriors.ZeroMean) for each in layers):
        warnings.warn(
            "All weights of the model's variance layers have mean zero: predictions "
            "with the weights at their means do not depend on the layers' inputs.",
            stacklevel=2,
        )
    return replace_layers(model, MeanLayer)


def zero_mean(model):
    """Every mean is dropped, the variance kept: the converse of `propagate_mean`.

    Where predictions stay as they were, the information is in the variance.

    Args:
        model: A built Sequential or Functional model with variance layers.

    Returns:
        A Keras model with the same inputs and weights, one sample a call.

    Raises:
        ValueError: If the model has no variance layer, or one that can't be seen.

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764), theorem 1.
    """
    find_variance_layers(model)
    return replace_layers(model, ZeroMeanLayer)


@keras.saving.register_keras_serializable("keras_variance")
class MeanLayer(View):
    """A variance layer with its weights at their means."""

    def call(self, inputs):
        layer = self.layer.random_linear()
        inputs = ops.cast(inputs, self.compute_dtype)
        mean = ops.zeros_like(layer.scale) if layer.mean is None else layer.mean
        return self.layer.activate(layer.apply(inputs, mean))


@keras.saving.register_keras_serializable("keras_variance")
class ZeroMeanLayer(View):
    """A variance layer without its means: one sample a call."""

    def __init__(self, layer, **kwargs):
        super().__init__(layer, **kwargs)
        self.seed_generator = SeedGenerator(layer.seed)

    def call(self, inputs):
        layer = self.layer.random_linear()._replace(mean=None)
        inputs = ops.cast(inputs, self.compute_dtype)
        seed = Stream(self.seed_generator.next())
        return self.layer.activate(self.layer.estimator(layer, inputs, seed))
