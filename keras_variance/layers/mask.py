"""Pruned weights: at 0, and kept there in training."""

import numpy as np
from keras import ops

from keras_variance import _keras, checks


class Prunable:
    """What `VarianceLayer` can do with a `mask`, true for the weights that are left.

    It is a variable, or None as long as `pruned` is false.
    """

    def _add_mask(self):
        self.mask = self.add_weight(
            name="mask",
            shape=self.kernel.shape,
            dtype="bool",
            initializer="ones",
            trainable=False,
        )
        self._constraint = self.kernel.constraint  # the user's
        self._freeze_pruned()

    def _freeze_pruned(self):
        """Momentum from before would move pruned weights whose gradient is 0."""
        mask = _keras.constant(self.mask)
        _constrain(self.kernel, self._constraint, mask, 0)
        if self.posterior.pruned_phi is not None:
            _constrain(self.phi, None, mask, self.posterior.pruned_phi)

    def keep(self, mask):
        """Prune all weights but some, in place: they are 0, in training too.

        A weight that was pruned before stays so. A compiled model has to trace its
        functions again to keep the weights at 0 in training, which
        `keras_variance.prune` handles.

        Args:
            mask: Boolean array that broadcasts to the kernel's shape, true for weights
                to keep.

        Raises:
            ValueError: If it is none, does not, or the layer is not built. Nothing is
                pruned then.
        """
        checks.built("layer", self)
        given, shape = mask, tuple(self.kernel.shape)
        mask = np.asarray(ops.convert_to_numpy(mask) if ops.is_tensor(mask) else mask)
        try:
            mask = np.broadcast_to(mask, shape)
        except ValueError:
            mask = None
        checks.require(
            mask is not None and mask.dtype == bool,
            "mask",
            f"booleans that broadcast to the kernel's shape, {shape}",
            given,
        )
        if not self.pruned:
            _keras.unlock(self)
            self._add_mask()
            _keras.lock(self)
            self.pruned = True
        self.mask.assign(ops.logical_and(self.mask, mask))
        self.kernel.assign(_fill(self.kernel, self.mask, 0))
        if self.posterior.pruned_phi is not None:
            self.phi.assign(_fill(self.phi, self.mask, self.posterior.pruned_phi))
        self._freeze_pruned()

    def _masked(self, weights):
        if self.mask is None or weights is None:
            return weights
        return _fill(weights, self.mask, 0)


def _fill(weights, mask, value):
    """`weights` where the mask is true, else a value."""
    mask, weights = map(ops.convert_to_tensor, (mask, weights))
    return ops.where(mask, weights, ops.convert_to_tensor(value, weights.dtype))


def _constrain(variable, constraint, mask, value):
    """Have a variable's masked entries keep a value in training."""

    def constrained(weights):
        weights = weights if constraint is None else constraint(weights)
        return _fill(weights, mask, value)

    variable.constraint = constrained
