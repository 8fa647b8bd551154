"""`RandomWeight`: a weight that is drawn."""

import keras
import numpy as np
from keras import ops

from keras_variance import _keras, checks


class RandomWeight:
    """A weight of a layer, `mean + scale · noise`: its entries are independent.

    The layer has the posterior, the noise and the prior, and is built.

    Args:
        layer: The layer that draws the weight: a `RandomWeights`.
        variable: θ, a variable of the layer or of one inside of it.
        unit_axes: Axes of the weight that index output units, counted from the end.
        name: The variable's path in the layer, as `"lstm_cell/kernel"`.
        index: Its number among the layer's random weights.

    Attributes:
        phi: φ, a variable; None if the posterior has none.
        mask: A variable, true for the entries that are left, which are 0 elsewhere
            and stay so in training; None as long as the layer is not pruned.
        prior_variables: Of the prior, by name.
    """

    def __init__(self, layer, variable, unit_axes=(-1,), name="kernel", index=0):
        self.layer = layer
        self.variable = variable
        self.unit_axes = unit_axes
        self.name = name
        self._suffix = f"_{index}" if index else ""
        self.phi = self.mask = None
        posterior = layer.posterior
        shape = posterior.phi_shape(self.shape, unit_axes)
        if shape is not None:
            self.phi = layer.add_weight(
                name=posterior.phi_name + self._suffix,
                shape=shape,
                initializer=self._initial_phi,
            )
        self.prior_variables = {
            name: layer.add_weight(name=f"prior_{name}{self._suffix}", **arguments)
            for name, arguments in self._prior_arguments().items()
        }

    def start(self):
        """Have φ, and the center of a prior with `mean="initial"`, start anew from the
        variable that there is now, as they did when the layer was built."""
        if self.phi is not None:
            self.phi.assign(self._initial_phi(self.phi.shape, self.phi.dtype))
        self.start_prior()

    def start_prior(self, names=None):
        """As `start`, of the prior's variables alone; of those of some names."""
        for name, arguments in self._prior_arguments().items():
            variable = self.prior_variables[name]
            if names is None or variable.name in names:
                initializer = keras.initializers.get(arguments["initializer"])
                variable.assign(initializer(variable.shape, variable.dtype))

    def _initial_phi(self, shape, dtype):
        start = self.layer.posterior.initial_phi(self.variable)
        return ops.cast(start, dtype) * ops.ones(shape, dtype)

    def _prior_arguments(self):
        prior = self.layer.prior
        return {} if prior is None else prior.variables(self.variable)

    @property
    def shape(self):
        return tuple(self.variable.shape)

    @property
    def mean(self):
        """Means of the entries, a tensor; None stands for 0 everywhere."""
        return self._masked(self.layer.posterior.mean(*self._theta_and_phi()))

    @property
    def scale(self):
        """Standard deviations of the entries, up to sign: a tensor."""
        return self._masked(self.layer.posterior.scale(*self._theta_and_phi()))

    @property
    def log_alpha(self):
        """log(variance / mean²) of the entries; broadcasts to the weight."""
        return self.layer.posterior.log_alpha(*self._theta_and_phi())

    def sample(self, seed):
        """One draw, a tensor of single precision at least.

        Args:
            seed: A `random.Stream`.
        """
        mean, deviation = self.mean, self.deviation(seed)
        return deviation if mean is None else mean + deviation

    def deviation(self, seed):
        """As `sample`, without the mean."""
        scale = self.scale
        return scale * self.layer.noise.sample(self.shape, scale.dtype, seed)

    def kl_divergence(self, seed):
        """KL(posterior‖prior) of all entries in nats: a scalar tensor.

        Args:
            seed: A `keras.random.SeedGenerator` for a Monte Carlo estimate.
        """
        posterior, prior = self.layer.posterior, self.layer.prior
        theta, phi = self._theta_and_phi()
        alive = self.scale != 0
        # In place of a pruned weight: a divergence that is finite, and not counted
        theta = ops.where(alive, theta, ops.ones_like(theta))
        if posterior.pruned_phi is not None:
            phi = ops.where(alive, phi, ops.zeros_like(phi))
        variables = {
            name: ops.cast(variable, theta.dtype)
            for name, variable in self.prior_variables.items()
        }
        kl = prior.kl(posterior, theta, phi, seed, **variables)
        # An entry may stand for several weights
        kl = ops.reshape(
            kl, (1,) * (len(theta.shape) - len(kl.shape)) + tuple(kl.shape)
        )
        axes = [axis for axis, size in enumerate(kl.shape) if size == 1]
        weights = ops.sum(ops.cast(alive, kl.dtype), axis=axes, keepdims=True)
        return ops.sum(kl * weights)

    def distribution(self):
        """The posterior as a `tensorflow_probability` distribution.

        Returns:
            A distribution whose batch shape is the weight's.

        Raises:
            RuntimeError: If TensorFlow is not the backend.
            ImportError: If `tensorflow_probability` is not installed.
        """
        mean, scale = self.mean, self.scale
        mean = ops.zeros_like(scale) if mean is None else mean
        return self.layer.noise.distribution(mean, scale)

    def keep(self, mask):
        """Prune all entries but some, in place: they are 0, in training too.

        An entry that was pruned before stays so. A compiled model has to trace its
        functions again to keep the entries at 0 in training, which
        `keras_variance.prune` handles.

        Args:
            mask: Boolean array that broadcasts to the weight's shape, true for entries
                to keep.

        Raises:
            ValueError: If it is none, or does not. Nothing is pruned then.
        """
        given = mask
        mask = np.asarray(ops.convert_to_numpy(mask) if ops.is_tensor(mask) else mask)
        try:
            mask = np.broadcast_to(mask, self.shape)
        except ValueError:
            mask = None
        checks.require(
            mask is not None and mask.dtype == bool,
            "mask",
            f"booleans that broadcast to the kernel's shape, {self.shape}",
            given,
        )
        self.layer.be_pruned()
        self.mask.assign(ops.logical_and(self.mask, mask))
        self.variable.assign(_fill(self.variable, self.mask, 0))
        pruned_phi = self.layer.posterior.pruned_phi
        if pruned_phi is not None:
            self.phi.assign(_fill(self.phi, self.mask, pruned_phi))
        self.freeze_pruned()

    def add_mask(self):
        self.mask = self.layer.add_weight(
            name=f"mask{self._suffix}",
            shape=self.shape,
            dtype="bool",
            initializer="ones",
            trainable=False,
        )
        self._constraint = self.variable.constraint  # the user's
        self.freeze_pruned()

    def freeze_pruned(self):
        """Momentum from before would move pruned weights whose gradient is 0."""
        mask, pruned_phi = _keras.constant(self.mask), self.layer.posterior.pruned_phi
        _constrain(self.variable, self._constraint, mask, 0)
        if pruned_phi is not None:
            _constrain(self.phi, None, mask, pruned_phi)

    def _theta_and_phi(self):
        """θ and φ as tensors of at least single precision."""
        dtype = keras.backend.result_type(self.variable.dtype, "float32")
        phi = None if self.phi is None else ops.cast(self.phi, dtype)
        return ops.cast(self.variable, dtype), phi

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
