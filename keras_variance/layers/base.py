"""`VarianceLayer`: what makes a stock Keras layer stochastic."""

import math

import keras
from keras import ops

from keras_variance import arguments, estimators
from keras_variance.distributions import noises, posteriors, priors
from keras_variance.random import SeedGenerator, Stream


class VarianceLayer:
    """Mixin that draws the kernel of a stock Keras layer.

    Every weight of the kernel is `mean + scale · noise`, independent of the
    others. `posterior` makes mean and scale of the variables θ (the stock
    kernel) and φ; `estimator` draws the output. The layer draws whenever it is
    called, in training and in inference. The bias is not random.

    With a `prior`, each call adds the loss `kl_weight · KL / train_size`: with
    Keras's loss, a mean over the batch, that is the negative ELBO divided by
    the number of rows.

    A subclass puts the mixin before a stock layer and adds `linear`:

    ```python
    class VarianceDense(VarianceLayer, keras.layers.Dense):
        def linear(self, inputs, kernel):
            return ops.matmul(inputs, kernel)
    ```

    Args:
        posterior: How mean and variance are parameterized: `"zero_mean"`,
            `"layer_alpha"`, `"neuron_alpha"`, `"weight_alpha"`, `"additive"`
            or a `posteriors.Posterior`.
        noise: `"gaussian"`, `"bernoulli"` (±1), `"uniform"` or a
            `noises.Noise`.
        estimator: How an output is drawn: `"local_reparameterization"`,
            `"moment_matching"`, `"flipout"`, `"weight_sampling"` or an
            `estimators.Estimator`. Defaults to local reparameterization for
            Gaussian noise, flipout for other noise.
        prior: `"log_uniform"`, `"student_t"`, `"ard"`, a `priors.Prior`, or
            None for no KL divergence. A prior needs Gaussian noise.
        train_size: Number of rows of the training data (not of a batch).
            Required with a prior.
        kl_weight: Float ≥ 0, the initial value of the variable `kl_weight`,
            to be changed in training for KL annealing.
        seed: Integer that makes the noise repeatable.
        pruned: Whether the layer has a mask of pruned weights, which are 0 and
            stay so in training (see `keras_variance.prune`).
        *args, **kwargs: The arguments of the stock layer, unchanged.

    Raises:
        ValueError: For an unknown member of a family, an estimator or a prior
            that does not fit the noise, a prior without `train_size`.

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764).
    """

    # Axes of the kernel that index output units, counted from the end.
    unit_axes = (-1,)

    def __init__(
        self,
        *args,
        posterior: str | dict | posteriors.Posterior = "zero_mean",
        noise: str | dict | noises.Noise = "gaussian",
        estimator: str | dict | estimators.Estimator | None = None,
        prior: str | dict | priors.Prior | None = None,
        train_size: float | None = None,
        kl_weight: float = 1.0,
        seed: int | None = None,
        pruned: bool = False,
        **kwargs,
    ):
        posterior = posteriors.get(posterior)
        noise = noises.get(noise)
        if estimator is None:
            gaussian = isinstance(noise, noises.Gaussian)
            estimator = "local_reparameterization" if gaussian else "flipout"
        estimator = estimators.get(estimator)
        estimator.check(noise)
        prior = None if prior is None else priors.get(prior)
        _check_prior(prior, noise, train_size)
        if train_size is not None:
            train_size = arguments.number("train_size", train_size, above=0)
        kl_weight = arguments.number("kl_weight", kl_weight, minimum=0)
        super().__init__(*args, **kwargs)
        self.posterior = posterior
        self.noise = noise
        self.estimator = estimator
        self.prior = prior
        self.train_size = train_size
        self.initial_kl_weight = kl_weight
        self.seed = seed
        self.seed_generator = SeedGenerator(seed)
        self.pruned = pruned
        self.phi = None
        self.mask = None
        self.kl_weight = None
        if prior is not None:
            self.kl_weight = self.add_weight(
                name="kl_weight",
                shape=(),
                initializer=keras.initializers.Constant(kl_weight),
                dtype="float32",
                trainable=False,
            )
        self._kl_loss = None

    def linear(self, inputs, kernel):
        """The layer's linear operation with any kernel: no bias, no activation."""
        raise NotImplementedError

    def add_weight(self, *args, autocast=False, **kwargs):
        # Moments and KL are computed at full precision under a mixed policy;
        # what is computed in half precision is cast where it is used.
        return super().add_weight(*args, autocast=autocast, **kwargs)

    def build(self, input_shape):
        rank = self.input_spec.min_ndim
        if len(input_shape) < rank or input_shape[self.channel_axis] is None:
            raise ValueError(
                f"Layer '{self.name}' needs an input of at least {rank} axes with "
                f"a known number of channels (axis {self.channel_axis}). "
                f"Received: input_shape={input_shape}"
            )
        super().build(input_shape)
        shape = self.posterior.phi_shape(tuple(self.kernel.shape), self.unit_axes)
        if shape is not None:
            self.phi = self.add_weight(
                name=self.posterior.phi_name,
                shape=shape,
                initializer=keras.initializers.Constant(self.posterior.initial_phi),
            )
        if self.pruned:
            self._add_mask()

    def _add_mask(self):
        self.mask = self.add_weight(
            name="mask",
            shape=self.kernel.shape,
            dtype="bool",
            initializer="ones",
            trainable=False,
        )
        # Momentum from before would move θ where its gradient has become 0
        constraint = self.kernel.constraint or (lambda weights: weights)
        self.kernel.constraint = lambda weights: self._masked(constraint(weights))

    def keep(self, mask):
        """Prune all weights but some, in place: they are 0, in training too.

        A weight that was pruned before stays so. A model that was compiled before
        the layer's first mask has to be traced again, which `keras_variance.prune`
        sees to.

        Args:
            mask: Boolean array of the kernel's shape, true for weights to keep.
        """
        if not self.pruned:
            # A layer that is built takes no more weights; Keras does the same to
            # add LoRA weights to one.
            self._tracker.unlock()
            self._add_mask()
            self._tracker.lock()
            self.pruned = True
        self.mask.assign(ops.logical_and(self.mask, mask))
        self.kernel.assign(self._masked(self.kernel))

    def _masked(self, weights):
        if self.mask is None or weights is None:
            return weights
        return ops.where(self.mask, weights, ops.zeros((), weights.dtype))

    def call(self, inputs):
        seed = Stream(self.seed_generator.next())
        inputs = ops.cast(inputs, self.compute_dtype)
        outputs = self.estimator(self.random_linear(), inputs, seed)
        # A layer that is called twice in a model adds its KL divergence once.
        if self.prior and not any(loss is self._kl_loss for loss in self.losses):
            kl = self.kl_divergence(seed)
            self._kl_loss = self.kl_weight * kl / self.train_size
            self.add_loss(self._kl_loss)
        return self.activate(outputs)

    def activate(self, outputs):
        """What follows `linear`: the bias and the activation."""
        outputs = add_bias(self, outputs)
        return outputs if self.activation is None else self.activation(outputs)

    def random_linear(self) -> estimators.RandomLinear:
        """The layer as its estimator sees it."""
        return estimators.RandomLinear(
            self.linear,
            self.kernel_mean,
            self.kernel_scale,
            self.noise,
            self.channel_axis,
        )

    @property
    def channel_axis(self):
        """Axis of the channels in inputs and outputs."""
        return _channel_axis(self)

    @property
    def kernel_mean(self):
        """Means of the weights, a tensor; None stands for 0 everywhere."""
        return self._masked(self.posterior.mean(*self._parameters()))

    @property
    def kernel_scale(self):
        """Standard deviations of the weights, up to sign: a tensor."""
        return self._masked(self.posterior.scale(*self._parameters()))

    @property
    def log_alpha(self):
        """log(variance / mean²) of the weights; broadcasts to the kernel."""
        return self.posterior.log_alpha(*self._parameters())

    def kl_divergence(self, seed=None):
        """KL(posterior‖prior) of the layer in nats: a scalar tensor.

        Args:
            seed: A `keras.random.SeedGenerator` for a Monte Carlo estimate.
                Defaults to the layer's own.

        Raises:
            ValueError: If the layer has no prior.
        """
        if self.prior is None:
            raise ValueError(
                f"Layer '{self.name}' has no prior. Received: prior={self.prior}"
            )
        seed = seed or self.seed_generator
        kl = self.prior.kl(self.posterior, *self._parameters(), seed)
        weights_per_entry = math.prod(self.kernel.shape) / math.prod(kl.shape)
        return weights_per_entry * ops.sum(kl)

    def posterior_distribution(self):
        """The weights' posterior as a `tensorflow_probability` distribution.

        Returns:
            A distribution whose batch shape is the kernel's (TensorFlow
            backend only).
        """
        scale = self.kernel_scale
        mean = self.kernel_mean
        mean = ops.zeros_like(scale) if mean is None else mean
        return self.noise.distribution(mean, scale)

    def _parameters(self):
        """θ and φ as tensors of at least single precision."""
        dtype = keras.backend.result_type(self.kernel.dtype, "float32")
        phi = None if self.phi is None else ops.cast(self.phi, dtype)
        return ops.cast(self.kernel, dtype), phi

    def _refuse(self, *args, **kwargs):
        # `Model.quantize` warns and passes over layers that raise this.
        raise NotImplementedError(
            f"Layer '{self.name}' draws its kernel: it has no LoRA or quantization."
        )

    quantize = quantized_build = enable_lora = _refuse

    # The stock layers save the kernel and the bias by name, and lose φ.
    def save_own_variables(self, store):
        keras.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        keras.Layer.load_own_variables(self, store)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        config = {
            "posterior": serialize(self.posterior),
            "noise": serialize(self.noise),
            "estimator": serialize(self.estimator),
            "prior": serialize(self.prior),
            "train_size": self.train_size,
            "kl_weight": self.initial_kl_weight,
            "seed": self.seed,
            "pruned": self.pruned,
        }
        return {**super().get_config(), **config}


def add_bias(layer, outputs):
    """What a layer's linear operation returns, plus the bias, of any linear layer."""
    if layer.bias is None:
        return outputs
    shape = [1] * len(outputs.shape)
    shape[_channel_axis(layer)] = -1
    return outputs + ops.cast(ops.reshape(layer.bias, shape), outputs.dtype)


def _channel_axis(layer):
    return 1 if getattr(layer, "data_format", None) == "channels_first" else -1


def _check_prior(prior, noise, train_size):
    if prior is None:
        return
    if not isinstance(noise, noises.Gaussian):
        raise ValueError(
            "A `prior` needs Gaussian noise: its KL divergence is that of a Gaussian "
            f"posterior. Received: prior={prior!r}, noise={noise!r}"
        )
    if train_size is None:
        raise ValueError(
            "A `prior` needs `train_size`, the number of rows of the training data "
            "(not of a batch): the KL divergence is divided by it. "
            f"Received: prior={prior!r}, train_size=None"
        )


def variance_layers(model) -> list[VarianceLayer]:
    """The variance layers of a model (or layer), nested ones too, each once,
    in the order in which they were added."""
    found = {}

    def visit(layer):
        if isinstance(layer, VarianceLayer):
            found[id(layer)] = layer
        # Keras has no public way to see the layers inside of layers that are no
        # models; its own walk through all of them does not keep their order.
        for each in layer._flatten_layers(include_self=False, recursive=False):
            visit(each)

    visit(model)
    return list(found.values())
