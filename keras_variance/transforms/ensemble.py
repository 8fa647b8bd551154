"""`ensemble`: many samples in one call."""

import dataclasses
from typing import Any

import keras
from keras import ops, tree

from keras_variance.estimators import merge, split
from keras_variance.layers import VarianceLayer, variance_layers
from keras_variance.random import SeedGenerator, Stream, derive
from keras_variance.transforms.rewrite import (
    View,
    find_variance_layers,
    is_functional,
    rewrite,
)


def ensemble(model, samples: int = 20, shared_noise: bool = True, seed=None):
    """A model that draws all samples of an ensemble in one call.

    What comes before the first variance layer runs once; that layer computes its
    moments once and draws all samples of them (local reparameterization and
    moment matching) or draws a kernel for each sample; the rest runs on
    batch · samples rows.

    Args:
        model: A built model with variance layers. A subclassed model, and a layer
            that hides variance layers inside, is called once for each sample.
        samples: Integer ≥ 1, the number of samples.
        shared_noise: Whether sample k has the same noise for every row of the
            batch. Each row still sees independent samples; rows are
            correlated, and far less noise is drawn.
        seed: Integer that makes the noise repeatable.

    Returns:
        A Keras model with the same inputs and weights, whose outputs have the
        shape (batch, samples, …).

    Raises:
        ValueError: If the model has no variance layer, `samples` is below 1, or
            `seed` is given for layers that are called once for each sample.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential([keras.Input((4,)), VarianceDense(3)])
    >>> tuple(ensemble(model, samples=5)(np.ones((2, 4))).shape)
    (2, 5, 3)

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764): test-time
    averaging.
    """
    check_samples(samples)
    find_variance_layers(model)
    if not is_functional(model):
        _no_seed(model, seed)
        return SeparateCalls(model, samples)
    views = {}

    def view(layer):
        if id(layer) not in views:
            if isinstance(layer, VarianceLayer):
                make, view_seed = SampledLayer, derive(seed, len(views))
            else:
                make, view_seed = SampledCalls, _no_seed(layer, seed)
            views[id(layer)] = make(layer, samples, shared_noise, view_seed)
        return views[id(layer)]

    def repeat(value):
        if isinstance(value, keras.KerasTensor):
            return RepeatSamples(samples)(value)
        return value.tensor if isinstance(value, _Samples) else value

    def call(operation, *args, **kwargs):
        sampled = any(isinstance(x, _Samples) for x in tree.flatten((args, kwargs)))
        if isinstance(operation, keras.Layer) and variance_layers(operation):
            (inputs,) = args
            if sampled:
                return _Samples(view(operation)(inputs.tensor, sampled=True))
            return _Samples(MergeSamples(samples)(view(operation)(inputs)))
        if not sampled:
            return operation(*args, **kwargs)
        args, kwargs = tree.map_structure(repeat, (args, kwargs))
        return tree.map_structure(_Samples, operation(*args, **kwargs))

    return rewrite(model, call, lambda value: SplitSamples(samples)(repeat(value)))


def check_samples(samples):
    """Raise ValueError if `samples` is no number of samples."""
    if not isinstance(samples, int) or samples < 1:
        raise ValueError(
            f"Argument `samples` must be an integer ≥ 1. Received: samples={samples!r}"
        )


def _no_seed(layer, seed):
    if seed is not None:
        raise ValueError(
            f"Argument `seed` must be None: the variance layers in '{layer.name}' draw "
            "from their own generators. Use Sequential and Functional models, or give "
            f"the layers seeds. Received: seed={seed}"
        )


@dataclasses.dataclass
class _Samples:
    """What flows behind the first variance layer: samples, merged into the batch."""

    tensor: Any  # (batch · samples, …)


@keras.saving.register_keras_serializable("keras_variance")
class SampledLayer(View):
    """A variance layer that draws `samples` outputs for each example.

    Args:
        layer: The `VarianceLayer`.
        samples: The number of samples.
        shared_noise: Whether sample k has the same noise for every example.
        seed: Integer that makes the noise repeatable.

    Call arguments:
        inputs: (batch, …), or (batch · samples, …) if they are samples.
        sampled: Whether they are.

    Returns:
        (batch, samples, …), or (batch · samples, …) for inputs that are samples.
    """

    def __init__(self, layer, samples, shared_noise=True, seed=None, **kwargs):
        super().__init__(layer, **kwargs)
        self.samples = samples
        self.shared_noise = shared_noise
        self.seed = seed
        self.seed_generator = SeedGenerator(seed)

    def call(self, inputs, sampled=False):
        outputs = self.layer.estimator.ensemble(
            self.layer.random_linear(),
            ops.cast(inputs, self.compute_dtype),
            Stream(self.seed_generator.next()),
            self.samples,
            repeats=self.samples if sampled else 1,
            shared_noise=self.shared_noise,
        )
        outputs = self.layer.activate(outputs)
        return outputs if sampled else split(outputs, self.samples)

    def get_config(self):
        names = ("samples", "shared_noise", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_variance")
class SampledCalls(SampledLayer):
    """As `SampledLayer`, for any stochastic layer, which is called for each sample."""

    def call(self, inputs, sampled=False):
        inputs = split(inputs, self.samples if sampled else 1)
        rows = [inputs[:, k if sampled else 0] for k in range(self.samples)]
        outputs = ops.stack([self.layer(x) for x in rows], axis=1)
        return merge(outputs) if sampled else outputs


@keras.saving.register_keras_serializable("keras_variance")
class SeparateCalls(keras.Model):
    """`model`, called `samples` times: outputs of shape (batch, samples, …)."""

    def __init__(self, model, samples, **kwargs):
        super().__init__(**{"name": model.name, **kwargs})
        self.model = model
        self.samples = samples

    def call(self, inputs):
        each = [self.model(inputs) for _ in range(self.samples)]
        return tree.map_structure(lambda *xs: ops.stack(xs, axis=1), *each)

    def get_config(self):
        model = keras.saving.serialize_keras_object(self.model)
        return {"name": self.name, "model": model, "samples": self.samples}

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})


class _SampleAxis(keras.Layer):
    def __init__(self, samples, **kwargs):
        super().__init__(**kwargs)
        self.samples = samples
        self.supports_masking = True

    def compute_mask(self, inputs, previous_mask):
        return None if previous_mask is None else self.call(previous_mask)

    def get_config(self):
        return {**super().get_config(), "samples": self.samples}


@keras.saving.register_keras_serializable("keras_variance")
class RepeatSamples(_SampleAxis):
    """(batch, …) to (batch · samples, …): each row as often as it has samples."""

    def call(self, inputs):
        return ops.repeat(inputs, self.samples, axis=0)


@keras.saving.register_keras_serializable("keras_variance")
class MergeSamples(RepeatSamples):
    """(batch, samples, …) to (batch · samples, …). The mask is an example's."""

    def call(self, inputs):
        return merge(inputs)

    def compute_mask(self, inputs, previous_mask):
        return None if previous_mask is None else super().call(previous_mask)


@keras.saving.register_keras_serializable("keras_variance")
class SplitSamples(_SampleAxis):
    """(batch · samples, …) to (batch, samples, …)."""

    def call(self, inputs):
        return split(inputs, self.samples)
