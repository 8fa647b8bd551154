"""Layers of TensorFlow Probability: https://github.com/tensorflow/probability."""

import importlib.metadata
import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from benchmarks.peers import keras_models, protocol

VERSION = importlib.metadata.version("tensorflow-probability")


class TFP(keras_models.Keras):
    versions = f"{VERSION}, tf_keras {tf_keras.__version__}"

    def __init__(self, estimator="LocalReparameterization", examples=60_000):
        super().__init__(tf_keras)
        self.kind = getattr(tfp.layers, f"Dense{estimator}")

    def dense(self, units, examples=60_000, use_bias=True, **arguments):
        def divergence(q, p, _):
            return tfp.distributions.kl_divergence(q, p) / examples

        if not use_bias:
            arguments["bias_posterior_fn"] = None
        return self.kind(units, kernel_divergence_fn=divergence, **arguments)

    def layer(self, mean, **arguments):
        return super().layer(mean, examples=1, **arguments)

    def stddev(self, layer):
        scale = next(x for x in layer.variables if "untransformed_scale" in x.name)
        scale.assign(np.full(scale.shape, np.log(np.expm1(protocol.STDDEV))))

    def means(self, layer):
        return next(x for x in layer.variables if "kernel_posterior_loc" in x.name)

    def half(self, x, mean):
        return self.layer(mean, dtype="float16")(x.astype("float16")).numpy()

    def reloaded(self, folder):
        first, second = self.network(), self.network()
        first.save_weights(folder / "model.weights.h5")
        second.load_weights(folder / "model.weights.h5")
        return tuple(self.means(each.layers[5]).numpy() for each in (first, second))


tf.config.threading.set_intra_op_parallelism_threads(1)
peer = TFP
