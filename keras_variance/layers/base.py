"""`VarianceLayer`: what makes a stock Keras layer stochastic."""

import keras
from keras import ops

from keras_variance import checks, estimators
from keras_variance.distributions import noises, posteriors, priors
from keras_variance.layers import saving
from keras_variance.layers.kl import Variational, check_train_size
from keras_variance.layers.mask import Prunable
from keras_variance.random import SeedGenerator, Stream


class VarianceLayer(Prunable, Variational):
    """Mixin that draws the kernel of a stock Keras layer.

    Every weight of the kernel is `mean + scale · noise`, independent of the
    others. `posterior` makes mean and scale of the variables θ (the stock
    kernel) and φ; `estimator` draws the output. The layer draws whenever it is
    called, in training and in inference. The bias is not random.

    With a `prior`, the layer has the loss `kl_weight · KL / train_size`, once in a
    call of a model, however often it is called itself: with Keras's loss, a mean
    over the batch, that is the negative ELBO divided by the number of examples.

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
        prior: `"log_uniform"`, `"student_t"`, `"ard"`, `"normal"`,
            `"scale_mixture"`, a `priors.Prior`, or None for no KL divergence. A
            prior needs Gaussian noise.
        train_size: Number of examples of the training data (not of a batch). It may
            be given later, by `keras_variance.set_train_size`.
        kl_weight: Float ≥ 0, the initial value of the variable `kl_weight`,
            to be changed in training for KL annealing.
        seed: Integer that makes the noise repeatable.
        pruned: Whether the layer has a mask of pruned weights, which are 0 and
            stay so in training (see `keras_variance.prune`).
        *args, **kwargs: The arguments of the stock layer, unchanged.

    Raises:
        ValueError: For an unknown member of a family, an estimator or a prior
            that does not fit the noise, numbers out of range, and, when the loss is
            asked for, a prior without `train_size`.

    Reference: Variance Networks (https://arxiv.org/abs/1803.03764).
    """

    # Axes of the kernel that index output units, counted from the end.
    unit_axes = (-1,)
    # The axis that indexes the input's channels; None where they are not mixed.
    input_axis = -2
    # The stock layer's attribute that is the random weight.
    kernel_name = "kernel"
    # Of stock layers that have none.
    bias = activation = None

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
        self.estimator = estimator
        self.seed = seed
        self.seed_generator = SeedGenerator(seed)
        self.pruned = pruned
        self.phi = None
        self.mask = None
        self._add_prior(prior, train_size, kl_weight)

    def linear(self, inputs, kernel):
        """The layer's linear operation with any kernel: no bias, no activation."""
        raise NotImplementedError

    def square_linear(self, inputs, kernel, variance=None):
        """Variance of `linear(x, w)` with weights of mean zero: linear(E[x²], Var[w]).

        In the kernel's precision, single at least: the square of an input may overflow
        in half precision.

        Args:
            inputs: E[x], a tensor.
            kernel: Var[w], a kernel.
            variance: Var[x], a tensor; None for known inputs.
        """
        second = ops.square(ops.cast(inputs, kernel.dtype))
        return self.linear(second if variance is None else second + variance, kernel)

    def prepare(self, inputs):
        """Inputs as `linear` takes them."""
        return ops.cast(inputs, self.compute_dtype)

    def add_weight(self, *args, autocast=False, **kwargs):
        # Moments and KL are computed at full precision under a mixed policy;
        # what is computed in half precision is cast where it is used.
        return super().add_weight(*args, autocast=autocast, **kwargs)

    def build(self, input_shape):
        self.check_input_shape(input_shape)
        super().build(input_shape)
        shape = self.posterior.phi_shape(tuple(self.kernel.shape), self.unit_axes)
        if shape is not None:
            self.phi = self.add_weight(
                name=self.posterior.phi_name,
                shape=shape,
                initializer=self._initial_phi,
            )
        self._build_prior()
        if self.pruned:
            self._add_mask()

    def check_input_shape(self, input_shape):
        """Raise ValueError if the layer can't be built for inputs of this shape."""
        rank, (axes, _) = self.input_spec.min_ndim, self.channel_axes
        if len(input_shape) < rank or any(input_shape[axis] is None for axis in axes):
            raise ValueError(
                f"Layer '{self.name}' needs an input of at least {rank} axes with "
                f"a known number of channels (axis {axes[0]}). "
                f"Received: input_shape={input_shape}"
            )

    def _initial_phi(self, shape, dtype):
        start = self.posterior.initial_phi(self.kernel)
        return ops.cast(start, dtype) * ops.ones(shape, dtype)

    def start_from_kernel(self):
        """Have φ, and the center of a prior with `mean="initial"`, start anew from the
        kernel that the layer has now, as they did when it was built."""
        if self.phi is not None:
            self.phi.assign(self._initial_phi(self.phi.shape, self.phi.dtype))
        self._start_prior()

    def call(self, inputs):
        seed = Stream(self.seed_generator.next())
        outputs = self.estimator(self.random_linear(), self.prepare(inputs), seed)
        return self.activate(outputs)

    def activate(self, outputs):
        """What follows `linear`: the bias and the activation."""
        outputs = add_bias(self, outputs)
        return outputs if self.activation is None else self.activation(outputs)

    def random_linear(self) -> estimators.RandomLinear:
        """The layer as its estimator sees it."""
        return estimators.RandomLinear(
            self._without_rows(self.linear),
            self._without_rows(self.square_linear),
            self.kernel_mean,
            self.kernel_scale,
            self.noise,
            self.compute_dtype,
            self.channel_axes,
        )

    def _without_rows(self, linear):
        """`linear` of no examples too."""

        def apply(inputs, kernel):
            outputs = linear(inputs, kernel)
            if inputs.shape[0] != 0:
                return outputs
            # TensorFlow's convolutions return the inputs' shape
            shape = self.compute_output_shape(inputs.shape)
            return outputs if None in shape else ops.reshape(outputs, shape)

        return apply

    @property
    def channel_axes(self):
        """Axes of the inputs, and of the outputs, that are axes of the kernel too."""
        axis = 1 if _channels_first(self) else -1
        return (axis,), (axis,)

    @property
    def kernel_mean(self):
        """Means of the weights, a tensor; None stands for 0 everywhere."""
        return self._masked(self.posterior.mean(*self._theta_and_phi()))

    @property
    def kernel_scale(self):
        """Standard deviations of the weights, up to sign: a tensor."""
        return self._masked(self.posterior.scale(*self._theta_and_phi()))

    @property
    def log_alpha(self):
        """log(variance / mean²) of the weights; broadcasts to the kernel."""
        return self.posterior.log_alpha(*self._theta_and_phi())

    def posterior_distribution(self):
        """The weights' posterior as a `tensorflow_probability` distribution.

        Returns:
            A distribution whose batch shape is the kernel's.

        Raises:
            RuntimeError: If TensorFlow is not the backend.
            ImportError: If `tensorflow_probability` is not installed.
        """
        scale = self.kernel_scale
        mean = self.kernel_mean
        mean = ops.zeros_like(scale) if mean is None else mean
        return self.noise.distribution(mean, scale)

    def _theta_and_phi(self):
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

    # The stock layers save the kernel and the bias, by position, and lose φ.
    def save_own_variables(self, store):
        saving.save(self, store)

    def load_own_variables(self, store):
        missing = saving.load(self, store)
        self._start_prior(missing)
        if self.pruned:
            self._freeze_pruned()

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
    bias = getattr(layer, "bias", None)
    if bias is None:
        return outputs
    if _channels_first(layer):
        bias = ops.reshape(bias, (-1, *[1] * (len(outputs.shape) - 2)))
    return outputs + ops.cast(bias, outputs.dtype)


def _channels_first(layer):
    return getattr(layer, "data_format", None) == "channels_first"
