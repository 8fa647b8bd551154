"""Steps of layers that keep channels apart, or move them."""

import keras
import numpy as np
from keras import ops

from keras_variance import _keras
from keras_variance.transforms.shrinking.steps import (
    UNKNOWN,
    ChannelwiseStep,
    ShrinkStep,
    is_last,
    shrink_rule,
)

layers = keras.layers
shrink_rule(
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.Identity,
    layers.Rescaling,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
    _keras.Add,
    _keras.Subtract,
    _keras.Multiply,
    _keras.Maximum,
    _keras.Minimum,
    _keras.Divide,
    _keras.TrueDivide,
    _keras.Negative,
    _keras.Exp,
    _keras.Relu,
    _keras.Sigmoid,
    _keras.Tanh,
    *_keras.ELEMENTWISE,
)(ChannelwiseStep)


@shrink_rule(layers.BatchNormalization)
class BatchNorm(ChannelwiseStep):
    @classmethod
    def obstacle(cls, operation, sources, results):
        return "" if is_last(operation.axis, results) else UNKNOWN

    def make(self):
        layer, (result,) = self.operation, self.results
        if result.keep.all():
            return layer
        smaller = type(layer).from_config(layer.get_config())
        smaller.build((*result.tensor.shape[:-1], int(result.keep.sum())))
        for new, old in zip(smaller.weights, layer.weights, strict=True):
            new.assign(ops.convert_to_numpy(old)[result.keep])
        return smaller


@shrink_rule(layers.Flatten)
class Flatten(ShrinkStep):
    @classmethod
    def obstacle(cls, operation, sources, results):
        return UNKNOWN if None in sources[0].tensor.shape[1:] else ""

    def find_constants(self):
        (source,), (result,) = self.sources, self.results
        result.constant[:] = np.tile(
            source.constant, result.channels // source.channels
        )

    def demand(self):
        (source,), (result,) = self.sources, self.results
        keep = result.keep.reshape(-1, source.channels)
        source.keep |= keep.any(axis=0)
        keep[:] = source.keep


@shrink_rule(layers.Concatenate, _keras.Concatenate)
class Concatenate(ShrinkStep):
    @classmethod
    def obstacle(cls, operation, sources, results):
        return "" if is_last(operation.axis, results) else UNKNOWN

    def find_constants(self):
        (result,) = self.results
        result.constant[:] = np.concatenate([x.constant for x in self.sources])

    def demand(self):
        (result,) = self.results
        ends = np.cumsum([x.channels for x in self.sources])
        for source, keep in zip(
            self.sources, np.split(result.keep, ends[:-1]), strict=True
        ):
            source.keep |= keep
            keep[:] = source.keep
