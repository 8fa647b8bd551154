"""Pruning step by step, in training."""

import keras

from keras_variance import checks
from keras_variance.pruning import check_options, check_sparsity, prune


class GradualPruning(keras.callbacks.Callback):
    """Prune a little more every few batches, while the model trains.

    From sparsity s₀ at step a to s₁ at step b, at step t

        s(t) = s₁ + (s₀ − s₁) (1 − (t − a) / (b − a))³

    fast at first, slow when few weights are left. Pruned weights stay 0.

    Args:
        sparsity: From 0 to below 1, the sparsity to reach.
        begin: Float ≥ 0, when to begin, in epochs of training.
        end: Float > `begin`, when to have reached it, in epochs: leave some for the
            weights that are left.
        initial_sparsity: From 0 to `sparsity`.
        frequency: Integer ≥ 1, batches from one pruning to the next.
        **kwargs: Further arguments of `keras_variance.prune`: `by`, `granularity`,
            `layers`.

    Raises:
        ValueError: For values outside of these, and as `prune`.

    Example:

    >>> import keras_variance as kv
    >>> callback = kv.callbacks.GradualPruning(0.98, begin=2, end=8)

    Reference: Zhu & Gupta, To prune, or not to prune
    (https://arxiv.org/abs/1710.01878), equation 1.
    """

    def __init__(
        self,
        sparsity: float,
        begin: float = 0,
        end: float = 1,
        initial_sparsity: float = 0.0,
        frequency: int = 100,
        **kwargs,
    ):
        super().__init__()
        self.sparsity = check_sparsity("sparsity", sparsity)
        self.initial_sparsity = check_sparsity("initial_sparsity", initial_sparsity)
        checks.require(
            self.initial_sparsity <= self.sparsity,
            "initial_sparsity",
            f"at most the sparsity to reach, {sparsity}",
            initial_sparsity,
        )
        self.begin = checks.number("begin", begin, minimum=0)
        self.end = checks.number("end", end, above=self.begin)
        self.frequency = checks.integer("frequency", frequency, minimum=1)
        check_options(**kwargs)
        self.kwargs = kwargs
        self.epoch = 0

    def sparsity_at(self, epoch: float) -> float:
        """The sparsity that is due after so many epochs."""
        done = min(max((epoch - self.begin) / (self.end - self.begin), 0), 1)
        gap = self.initial_sparsity - self.sparsity
        return self.sparsity + gap * (1 - done) ** 3

    def on_train_begin(self, logs=None):
        self._prune(0)  # the masks are there before the first step is traced

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.turn = 0

    def on_train_batch_end(self, batch, logs=None):
        steps = self.params["steps"]
        # With `steps_per_execution` not every batch comes here
        turn = (batch + 1) // self.frequency
        if steps and turn > self.turn:
            self.turn = turn
            self._prune(self.epoch + (batch + 1) / steps)

    def on_epoch_end(self, epoch, logs=None):
        self._prune(epoch + 1)

    def _prune(self, epoch):
        if epoch == 0 or self.begin <= epoch:
            prune(self.model, self.sparsity_at(epoch), **self.kwargs)
