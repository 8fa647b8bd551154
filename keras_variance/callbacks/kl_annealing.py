"""`KLAnnealing`: the KL divergence's weight, raised in training."""

import keras

from keras_variance import checks
from keras_variance.layers import variance_layers


class KLAnnealing(keras.callbacks.Callback):
    """Raises `kl_weight` of all layers that have a prior, linearly.

    Example:

    >>> import keras_variance as kv
    >>> model = keras.Sequential(
    ...     [kv.VarianceDense(1, posterior="additive", prior="ard", train_size=64)]
    ... )
    >>> model.compile("adam", "mse")
    >>> x, y = keras.ops.ones((64, 3)), keras.ops.ones((64, 1))
    >>> annealing = KLAnnealing(epochs=2)
    >>> history = model.fit(x, y, epochs=3, callbacks=[annealing], verbose=0)
    >>> history.history["kl_weight"]  # at the end of each epoch
    [0.5, 1.0, 1.0]

    After t epochs, a fraction within the epoch included,

        kl_weight = initial + (final − initial) · min(max((t − start) / epochs, 0), 1).

    The weight is set before each batch, in place of the layers' own. It depends
    on nothing but t: to resume, `fit(initial_epoch=...)` is enough. As long as
    the steps of an epoch are unknown, in the first epoch over a generator, it is
    set once an epoch. `logs["kl_weight"]` is the weight that the epoch ends with.

    Args:
        epochs: Positive number, the epochs from `initial` to `final`.
        initial: Float ≥ 0, the weight up to epoch `start`.
        final: Float ≥ 0, the weight from epoch `start + epochs` on.
        start: Number ≥ 0, the epoch in which annealing starts, counted from 0.

    Raises:
        ValueError: For arguments out of bounds and, when training begins, for a
            model in which no layer has a prior.

    Reference: Ladder Variational Autoencoders (https://arxiv.org/abs/1602.02282),
    where it is called warm-up.
    """

    async_safe = True  # Keras need not wait for each batch to end

    def __init__(
        self,
        epochs: float,
        initial: float = 0.0,
        final: float = 1.0,
        start: float = 0,
    ):
        super().__init__()
        self.epochs = checks.number("epochs", epochs, above=0)
        self.initial = checks.number("initial", initial, minimum=0)
        self.final = checks.number("final", final, minimum=0)
        self.start = checks.number("start", start, minimum=0)

    def on_train_begin(self, logs=None):
        self.steps = self.params["steps"]
        self.steps_seen = self.assigned = None
        if not self._kl_weights():
            raise ValueError(
                "`KLAnnealing` needs a model with a variance layer that has a `prior`. "
                f"Received: model={self.model!r}"
            )

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self._assign(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        if self.steps:
            self._assign(self.epoch + batch / self.steps)

    def on_train_batch_end(self, batch, logs=None):
        # Not counted as they begin: Keras begins one more when data runs out.
        self.steps_seen = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        self.steps = self.steps or self.steps_seen
        logs["kl_weight"] = self._assign(epoch + 1)

    def _kl_weights(self):
        layers = variance_layers(self.model)
        return [layer.kl_weight for layer in layers if layer.prior]

    def _assign(self, time):
        """Set the weight of `time`, in epochs, and return it."""
        part = min(max((time - self.start) / self.epochs, 0.0), 1.0)
        value = (1 - part) * self.initial + part * self.final
        if value != self.assigned:  # on JAX assigning ends a run of steps
            for kl_weight in self._kl_weights():
                kl_weight.assign(value)
            self.assigned = value
        return value
