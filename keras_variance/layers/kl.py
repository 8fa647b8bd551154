"""The KL divergence of a layer's weights from their prior, as a loss."""

import keras
from keras import ops

from keras_variance import _keras, checks


class Variational(_keras.OwnLosses):
    """What a layer with random weights can do with a `prior`."""

    def _add_prior(self, prior, train_size, kl_weight):
        """What does not depend on the shape of the kernel."""
        self.prior = prior
        self.initial_kl_weight = kl_weight
        self._train_size = train_size
        self.kl_weight = self._train_size_variable = None
        if prior is not None:
            self.kl_weight = self._add_number("kl_weight", kl_weight)
            size = 1 if train_size is None else train_size
            self._train_size_variable = self._add_number("train_size", size)

    def _add_number(self, name, value):
        return self.add_weight(
            name=name,
            shape=(),
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            trainable=False,
        )

    @property
    def train_size(self):
        """Number of examples of the training data, or None; it may be set at any
        time, after the model is compiled too."""
        return self._train_size

    @train_size.setter
    def train_size(self, value):
        self._train_size = check_train_size(value)
        if self.prior is not None and value is not None:
            self._train_size_variable.assign(value)

    @property
    def weights(self):
        """As of any layer. `train_size` is a variable and no weight: it belongs to the
        data, and does not come with the weights of another model."""
        return [x for x in super().weights if x is not self._train_size_variable]

    def own_loss(self):
        """`kl_weight · KL / train_size`, in single precision; None without a prior."""
        if self.prior is None or not self.built:
            return None
        if self.train_size is None:
            raise ValueError(
                f"Layer '{self.name}' has a prior, and needs the number of examples of "
                "the training data (not of a batch), by which the KL divergence is "
                "divided: give the layer `train_size=...`, or call "
                "`keras_variance.set_train_size(model, ...)`, and compile the model. "
                f"Received: prior={self.prior!r}, train_size=None"
            )
        kl = ops.cast(self.kl_divergence(), "float32")
        return self.kl_weight * kl / self._train_size_variable

    def kl_divergence(self, seed=None):
        """KL(posterior‖prior) of the layer in nats: a scalar tensor.

        Args:
            seed: A `keras.random.SeedGenerator` for a Monte Carlo estimate.
                Defaults to the layer's own.

        Raises:
            ValueError: If the layer has no prior or is not built, or `seed` is no
                generator.
        """
        if self.prior is None:
            raise ValueError(
                f"Layer '{self.name}' has no prior. Received: prior={self.prior}"
            )
        checks.built("layer", self)
        known = seed is None or isinstance(seed, keras.random.SeedGenerator)
        checks.require(known, "seed", "a `keras.random.SeedGenerator`, or None", seed)
        seed = seed or self.seed_generator
        return sum(weight.kl_divergence(seed) for weight in self.random_weights)


def check_train_size(value):
    """The number of examples of the training data, or None."""
    return None if value is None else checks.number("train_size", value, above=0)
