"""`propagate_mean` and `zero_mean`: one half of what a weight is, without the other."""

import warnings

import keras
from keras import tree

from keras_variance import checks
from keras_variance.distributions import posteriors
from keras_variance.layers.paths import find_variance_layers
from keras_variance.layers.weights import RandomWeights
from keras_variance.random import SeedGenerator, Stream
from keras_variance.transforms.walk import (
    Interpreter,
    check_visible,
    finish_call,
    hides,
    is_functional,
    output_mask,
    partial,
    refuse_hidden,
    tensors,
)


def propagate_mean(model: keras.Model) -> keras.Model:
    """The weight scaling rule: every weight is replaced by its mean.

    The usual shortcut for test-time averaging. Of a variance layer only the bias
    is left, so predictions do not depend on its input: then it warns.

    Args:
        model: A built model with variance layers.

    Returns:
        A deterministic Keras model with the same inputs, weights and losses.

    Raises:
        ValueError: If the model has no variance layer, or one that cannot be
            inspected.

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764): mean
    propagation.
    """
    layers = find_variance_layers(model, built=True)
    means = Means(model)
    if all(isinstance(each.posterior, posteriors.ZeroMean) for each in layers):
        warnings.warn(
            "All weights of the model's variance layers have mean zero: predictions "
            "with the weights at their means do not depend on the layers' inputs.",
            stacklevel=2,
        )
    return means.as_model()


def zero_mean(model: keras.Model, seed: int | None = None) -> keras.Model:
    """Every mean is dropped, the variance kept: the converse of `propagate_mean`.

    If predictions stay as they were, the information is in the variance.

    Args:
        model: A built model with variance layers.
        seed: Integer that makes the noise repeatable.

    Returns:
        A Keras model with the same inputs, weights and losses, one sample a call.

    Raises:
        ValueError: If the model has no variance layer, or one that cannot be
            inspected.

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764), theorem 1.
    """
    find_variance_layers(model, built=True)
    return ZeroMeans(model, seed).as_model()


@keras.saving.register_keras_serializable("keras_variance")
class Means(Interpreter):
    """A model with the weights of its variance layers at their means."""

    def __init__(self, model, **kwargs):
        if is_functional(model):
            check_visible(model, hides)
        super().__init__(model, **kwargs)

    def call(self, inputs, training=None, mask=None):
        inputs = self.standardized(inputs, mask)
        program = partial(self.model, inputs, _is_random, hides, training)
        outputs = run(program, self.variance_layer)
        return tree.pack_sequence_as(program.outputs, outputs)

    def variance_layer(self, layer, *args, **kwargs):
        """The outputs of one layer."""
        return layer.mean_outputs(*args, **kwargs)


@keras.saving.register_keras_serializable("keras_variance")
class ZeroMeans(Means):
    """A model whose variance layers lack their means: one sample a call."""

    def __init__(self, model, seed=None, **kwargs):
        super().__init__(model, **kwargs)
        self.seed = checks.seed(seed)
        self.seed_generator = SeedGenerator(self.seed)

    def variance_layer(self, layer, *args, **kwargs):
        seed = Stream(self.seed_generator.next())
        return layer.zero_mean_outputs(seed, *args, **kwargs)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


def _is_random(operation, kwargs):
    return isinstance(operation, RandomWeights) or hides(operation)


def run(program, variance_layer):
    """The outputs of a program, flat, with `variance_layer(layer, *args, **kwargs)` for
    the calls of variance layers."""

    def call(step, args, kwargs):
        args, kwargs = tensors((args, kwargs))
        refuse_hidden(step.operation)
        if not isinstance(step.operation, RandomWeights):
            return step.operation(*args, **kwargs)
        outputs = variance_layer(step.operation, *args, **kwargs)
        mask = output_mask(step.operation, args[0])
        return finish_call(step.operation, outputs, mask)

    return tensors(program.run(call))
