"""Monte Carlo dropout by a loop, as tutorials write it, on Keras."""

import keras
import numpy as np

from benchmarks.peers import keras_models, protocol


class DropoutLoop(keras_models.Keras):
    versions = f"keras {keras.__version__}"

    def __init__(self):
        super().__init__(keras)

    def network(self, stochastic=True):
        layers = [keras.layers.Dense(500, activation="relu")]
        if stochastic:
            layers = [keras.layers.Dropout(0.5), *layers]
        return keras_models.lenet(keras, layers)

    def predict(self, samples):
        if not samples:
            return super().predict(0)
        model, (x, _) = self.network(), protocol.images(protocol.IMAGES)
        return lambda: np.stack(
            [
                keras.ops.convert_to_numpy(model(x, training=True))
                for _ in range(samples)
            ]
        )

    def layer(self, mean, **arguments):
        raise NotImplementedError("dropout has no variance to set")

    def reloaded(self, folder):
        first = self.network()
        first.save(folder / "model.keras")
        second = keras.models.load_model(folder / "model.keras")
        return tuple(
            keras.ops.convert_to_numpy(each.layers[6].kernel)
            for each in (first, second)
        )


peer = DropoutLoop
