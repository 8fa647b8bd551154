"""`CheckTrainSize`: whether the KL divergence is divided by the right number."""

import keras
from keras import ops

from keras_variance.layers import variance_layers


class CheckTrainSize(keras.callbacks.Callback):
    """Stops training after its first epoch if a layer's `train_size` is wrong.

    A KL divergence that is divided by the size of a batch, the number of batches, or
    the size of another data set is the commonest mistake in variational training: it
    trains, and gives a model that is as wrong as it looks right.

    The size of the training data is what Keras counts for its mean of the loss. Leave
    the callback out if an epoch is not one pass over them (`steps_per_epoch`).

    Raises:
        ValueError: At the end of the first epoch, if a layer with a prior has another
            `train_size` than the number of examples in it. When training begins, for
            a model in which no layer has a prior.

    Example:

    >>> import keras_variance as kv
    >>> layer = kv.VarianceDense(1, posterior="additive", prior="normal", train_size=64)
    >>> model = keras.Sequential([layer])
    >>> model.compile("adam", "mse")
    >>> x, y = keras.ops.ones((64, 3)), keras.ops.ones((64, 1))
    >>> history = model.fit(x, y, verbose=0, callbacks=[CheckTrainSize()])
    """

    def on_train_begin(self, logs=None):
        self.examples = None
        if not any(layer.prior for layer in variance_layers(self.model)):
            raise ValueError(
                "`CheckTrainSize` needs a model with a variance layer that has a "
                f"`prior`. Received: model={self.model!r}"
            )

    def on_test_begin(self, logs=None):
        self._count()  # before validation counts anew

    def on_epoch_end(self, epoch, logs=None):
        self._count()
        for layer in variance_layers(self.model):
            if layer.prior is not None and layer.train_size != self.examples:
                raise ValueError(
                    f"Layer '{layer.name}' must have as `train_size` the number of "
                    f"examples of the training data, and an epoch has {self.examples}. "
                    f"Received: train_size={layer.train_size}"
                )

    def _count(self):
        if self.examples is None:
            (mean,) = (x for x in self.model.metrics if x.name == "loss")
            self.examples = round(float(ops.convert_to_numpy(mean.count)))
