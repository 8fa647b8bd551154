"""This package."""

import keras
import numpy as np

import keras_variance as kv
from benchmarks.peers import keras_models, protocol


class KerasVariance(keras_models.Keras):
    versions = f"{kv.__version__}, keras {keras.__version__}"

    def __init__(self, posterior="additive"):
        super().__init__(keras)
        self.posterior = posterior

    def dense(self, units, **arguments):
        options = {"posterior": self.posterior, "train_size": 60_000}
        if self.posterior == "additive":
            options["prior"] = kv.priors.Normal(protocol.PRIOR_STDDEV)
        return kv.VarianceDense(units, **options, **arguments)

    def stddev(self, layer):
        layer.phi.assign(np.full(layer.phi.shape, 2 * np.log(protocol.STDDEV)))

    def means(self, layer):
        return layer.kernel

    def predict(self, samples):
        if not samples:
            return super().predict(0)
        model = kv.transforms.ensemble(self.network(), samples)
        x, _ = protocol.images(protocol.IMAGES)
        return lambda: model.predict_on_batch(x)

    def kl(self, mean):
        return 60_000 * super().kl(mean)


class Mean(KerasVariance):
    """Its default: weights of mean zero. The layer to check has none."""

    def __init__(self):
        super().__init__("zero_mean")

    def layer(self, mean, **arguments):
        raise NotImplementedError("weights of mean zero")


def peer(posterior="additive"):
    return Mean() if posterior == "zero_mean" else KerasVariance(posterior)
