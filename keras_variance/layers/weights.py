"""`RandomWeights`: a layer some of whose weights are drawn."""

import keras

from keras_variance import _keras, checks
from keras_variance.distributions import noises, posteriors, priors
from keras_variance.layers import saving
from keras_variance.layers.kl import Variational, check_train_size
from keras_variance.random import SeedGenerator


class RandomWeights(Variational):
    """Mixin of a layer some of whose weights are drawn: what all such layers share.

    It has the `posterior`, the `noise` and the `prior` of these weights, one generator
    of seeds, and one loss. A subclass puts it before a Keras layer, sets
    `random_weights` when it is built, and draws them in its `call`. It says how it is
    called otherwise: see `mean_outputs`, `zero_mean_outputs` and `drawn`.

    Args: as for `VarianceLayer`.

    Attributes:
        random_weights: The weights that are drawn, `RandomWeight`s; none before the
            layer is built.
        phis, masks, prior_weights: Their variables, in tuples, where TensorFlow's
            checkpoints look for them.
    """

    def __init__(
        self,
        *args,
        posterior,
        noise,
        prior,
        train_size,
        kl_weight,
        seed,
        pruned,
        **kwargs,
    ):
        posterior = posteriors.get(posterior)
        noise = noises.get(noise)
        if prior is not None:
            prior = priors.get(prior)
            prior.check(noise, posterior)
        train_size = check_train_size(train_size)
        kl_weight = checks.number("kl_weight", kl_weight, minimum=0)
        seed = checks.seed(seed)
        pruned = checks.flag("pruned", pruned)
        super().__init__(*args, **kwargs)
        self.posterior = posterior
        self.noise = noise
        self.seed = seed
        self.seed_generator = SeedGenerator(seed)
        self.pruned = pruned
        self.random_weights = ()
        self.phis = self.masks = self.prior_weights = ()
        self._add_prior(prior, train_size, kl_weight)

    def mean_outputs(self, *args, **kwargs):
        """What a call returns with the weights at their means."""
        raise NotImplementedError

    def zero_mean_outputs(self, seed, *args, **kwargs):
        """A sample of what a call returns without the means of the weights.

        Args:
            seed: A `random.Stream`.
        """
        raise NotImplementedError

    def drawn(self, seed):
        """One draw, as a layer of stock Keras.

        Args:
            seed: A `random.Stream`.

        Returns:
            The layer, which is not built, and the values of its variables.
        """
        raise NotImplementedError

    def add_weight(self, *args, autocast=False, **kwargs):
        # Moments and KL are computed at full precision under a mixed policy;
        # what is computed in half precision is cast where it is used.
        return super().add_weight(*args, autocast=autocast, **kwargs)

    def set_random_weights(self, weights):
        """Set `random_weights`: the last step of `build`."""
        self.random_weights = tuple(weights)
        self.phis = tuple(x.phi for x in self.random_weights if x.phi is not None)
        self.prior_weights = tuple(
            variable
            for weight in self.random_weights
            for variable in weight.prior_variables.values()
        )
        if self.pruned:
            self._add_masks()

    def streams(self, seed):
        """(weight, its own stream of seeds) of each random weight."""
        return [(x, seed.of_weight(k)) for k, x in enumerate(self.random_weights)]

    def start_from_weights(self):
        """Have φ, and the center of a prior with `mean="initial"`, start anew from the
        weights that the layer has now, as they did when it was built."""
        for weight in self.random_weights:
            weight.start()

    def be_pruned(self):
        """Make the layer `pruned`, if it is not, with nothing pruned yet."""
        if not self.pruned:
            _keras.unlock(self)
            self._add_masks()
            _keras.lock(self)
            self.pruned = True

    def _add_masks(self):
        for weight in self.random_weights:
            weight.add_mask()
        self.masks = tuple(weight.mask for weight in self.random_weights)

    def _refuse(self, *args, **kwargs):
        # `Model.quantize` warns and passes over layers that raise this.
        raise NotImplementedError(
            f"Layer '{self.name}' draws its kernel: it has no LoRA or quantization."
        )

    quantize = quantized_build = enable_lora = _refuse

    # The stock layers save the kernel and the bias, by position, and lose φ.
    def save_own_variables(self, store):
        saving.save(self, store)

    def load_own_variables(self, store):
        missing = saving.load(self, store)
        for weight in self.random_weights:
            weight.start_prior(missing)
            if self.pruned:
                weight.freeze_pruned()

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        config = {
            "posterior": serialize(self.posterior),
            "noise": serialize(self.noise),
            "prior": serialize(self.prior),
            "train_size": self.train_size,
            "kl_weight": self.initial_kl_weight,
            "seed": self.seed,
            "pruned": self.pruned,
        }
        return {**super().get_config(), **config}
