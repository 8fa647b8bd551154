"""Monte Carlo dropout: predictions averaged over what is dropped."""

import keras


class Dropping(keras.Model):
    """A `Sequential` model of logits that drops in prediction too: probabilities."""

    def __init__(self, layers):
        super().__init__()
        self.sequence = layers

    def call(self, inputs):
        for layer in self.sequence:
            # Everything else, such as BatchNorm, predicts
            inputs = layer(inputs, training=isinstance(layer, keras.layers.Dropout))
        return keras.ops.softmax(inputs)


def sampler(model):
    """Monte Carlo dropout of a built `Sequential` model of logits with `Dropout`.

    Returns:
        A function of images, (examples, …), the number of samples, at least 1, and
        the batch size, that returns class probabilities averaged over draws of what
        is dropped: (examples, classes). The layers before the first `Dropout` run once.
    """
    drop = [isinstance(each, keras.layers.Dropout) for each in model.layers]
    first = drop.index(True)
    features = keras.Sequential(
        [keras.Input(model.input_shape[1:]), *model.layers[:first]]
    )
    dropping = Dropping(model.layers[first:])

    def sampled(x, samples, batch_size=500):
        hidden = features.predict(x, batch_size, verbose=0)
        draws = (
            dropping.predict(hidden, batch_size, verbose=0) for _ in range(samples)
        )
        return sum(draws) / samples

    return sampled
