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


def dropout_samples(model, x, samples, batch_size=500):
    """Class probabilities, averaged over draws of what is dropped.

    Args:
        model: A built `Sequential` model of logits, with `Dropout` layers.
        x: Array, (examples, …).
        samples: Integer ≥ 1.

    Returns:
        Array, (examples, classes).
    """
    drop = [isinstance(each, keras.layers.Dropout) for each in model.layers]
    first = drop.index(True)
    features = keras.Sequential([keras.Input(x.shape[1:]), *model.layers[:first]])
    hidden = features.predict(x, batch_size, verbose=0)
    dropping = Dropping(model.layers[first:])
    draws = (dropping.predict(hidden, batch_size, verbose=0) for _ in range(samples))
    return sum(draws) / samples
