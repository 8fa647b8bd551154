"""keras-proba: https://pypi.org/project/keras-proba."""

import importlib.metadata

import keras
import numpy as np
from keras_proba import layers

from benchmarks.peers import keras_models, protocol

VERSION = importlib.metadata.version("keras-proba")


class KerasProba(keras_models.Keras):
    versions = f"{VERSION}, keras {keras.__version__}"

    def __init__(self, estimator="LocalReparameterization"):
        super().__init__(keras)
        self.kind = getattr(layers, f"Dense{estimator}")

    def dense(self, units, **arguments):
        return self.kind(units, **arguments)

    def network(self, stochastic=True):
        if not stochastic:
            return super().network(False)
        dense = self.dense(500, activation="relu", kl_weight=1 / 60_000)
        return keras_models.lenet(keras, [dense])

    def stddev(self, layer):
        variable = layer.kernel_posterior_untransformed_scale
        value = np.log(np.expm1(protocol.STDDEV))
        variable.assign(np.full(variable.shape, value))

    def means(self, layer):
        return layer.kernel_posterior_loc


peer = KerasProba
