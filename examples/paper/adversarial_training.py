"""Training on adversarial examples, on TensorFlow: the yardstick of robustness."""

import keras
from keras import ops

from examples.networks import vgg

STEP = 1.25  # of ε, as in the reference


@keras.saving.register_keras_serializable("examples")
class AdversarialTraining(keras.Model):
    """A classifier that is trained on images changed against it.

    Each batch is moved by uniform noise within ε, then by one step along the sign of
    the loss's gradient, and kept within ε of the images and within their range.

    Args:
        network: Model from images, (batch, height, width, channels), to logits.
        epsilon: The largest change: one number for each channel.
        low, high: The range of images, likewise.

    Reference: Wong, Rice & Kolter, Fast is better than free: Revisiting adversarial
    training (https://arxiv.org/abs/2001.03994).
    """

    def __init__(self, network, epsilon, low, high, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.epsilon, self.low, self.high = epsilon, low, high
        self.noise = keras.random.SeedGenerator()

    def call(self, images, training=None):
        return self.network(images, training=training)

    def train_step(self, data):
        images, labels = data
        return super().train_step((self.attacked(images, labels), labels))

    def attacked(self, images, labels):
        """Images changed against the network as it is."""
        import tensorflow as tf

        epsilon = ops.array(self.epsilon)
        noise = keras.random.uniform(ops.shape(images), -1, 1, seed=self.noise)
        change = epsilon * noise
        with tf.GradientTape() as tape:
            tape.watch(change)
            logits = self.network(self._clipped(images + change), training=True)
            loss = keras.losses.sparse_categorical_crossentropy(labels, logits, True)
        change = change + STEP * epsilon * ops.sign(tape.gradient(loss, change))
        return self._clipped(images + ops.clip(change, -epsilon, epsilon))

    def _clipped(self, images):
        return ops.clip(images, ops.array(self.low), ops.array(self.high))

    def get_config(self):
        network = keras.saving.serialize_keras_object(self.network)
        names = ("epsilon", "low", "high")
        numbers = {name: getattr(self, name) for name in names}
        return {**super().get_config(), "network": network, **numbers}

    @classmethod
    def from_config(cls, config):
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def adversarial_vgg(input_shape, classes, width, epsilon, low, high):
    """`vgg` without dropout, to be trained on adversarial examples."""
    network = vgg(input_shape, classes, width)
    return AdversarialTraining(network, epsilon, low, high)
