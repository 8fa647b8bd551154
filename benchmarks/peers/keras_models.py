"""What the libraries on Keras share: LeNet-5, and a train step of it."""

import numpy as np

from benchmarks.peers import protocol


def lenet(keras, dense):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(20, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(50, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            *dense,
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    return model


class Keras(protocol.Peer):
    """A library on Keras: it makes a layer."""

    def __init__(self, keras):
        self.keras = keras

    def dense(self, units, **arguments):
        """A stochastic dense layer."""
        raise NotImplementedError

    def stddev(self, layer):
        """Set the standard deviations of a layer's weights to STDDEV."""
        raise NotImplementedError

    def means(self, layer):
        """The variable of the means of a layer's weights."""
        raise NotImplementedError

    def network(self, stochastic=True):
        dense = self.dense if stochastic else self.keras.layers.Dense
        return lenet(self.keras, [dense(500, activation="relu")])

    def step(self, stochastic):
        model, (x, y) = self.network(stochastic), protocol.images(protocol.BATCH)
        return lambda: model.train_on_batch(x, y)

    def predict(self, samples):
        model, (x, _) = self.network(samples > 0), protocol.images(protocol.IMAGES)
        return lambda: np.stack(
            [model.predict_on_batch(x) for _ in range(samples or 1)]
        )

    def layer(self, mean, **arguments):
        layer = self.dense(mean.shape[1], use_bias=False, **arguments)
        layer.build((None, len(mean)))
        self.means(layer).assign(mean)
        self.stddev(layer)
        return layer

    def draws(self, x, mean, number):
        model = self.keras.Sequential([self.layer(mean)])
        return np.stack([model.predict_on_batch(x) for _ in range(number)])

    def kl(self, mean):
        layer = self.layer(mean)
        layer(np.zeros((1, len(mean)), "float32"))
        return sum(map(float, layer.losses))

    def half(self, x, mean):
        layer = self.layer(mean, dtype="float16")
        return self.keras.ops.convert_to_numpy(layer(x.astype("float16")))

    def reloaded(self, folder):
        first = self.network()
        first.save(folder / "model.keras")
        second = self.keras.models.load_model(folder / "model.keras")
        return tuple(
            self.keras.ops.convert_to_numpy(self.means(model.layers[5]))
            for model in (first, second)
        )
