"""`VarianceLayer`: what makes a stock Keras layer stochastic."""

import keras
from keras import ops

from keras_variance import checks, estimators
from keras_variance.distributions import noises, posteriors, priors
from keras_variance.layers.linear_map import LinearMap, square_linear, without_rows
from keras_variance.layers.weight import RandomWeight
from keras_variance.layers.weights import RandomWeights
from keras_variance.random import Stream


class VarianceLayer(RandomWeights):
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

    A layer that is several linear maps in a row, each with a random kernel, has these
    in `linear_maps`: the output of one is drawn, given its input, before the next.

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
    unit_axes: tuple[int, ...] = (-1,)
    # The axis that indexes the input's channels; None where they are not mixed.
    input_axis: int | None = -2
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
        noise = noises.get(noise)
        if estimator is None:
            gaussian = isinstance(noise, noises.Gaussian)
            estimator = "local_reparameterization" if gaussian else "flipout"
        estimator = estimators.get(estimator)
        estimator.check(noise)
        super().__init__(
            *args,
            posterior=posterior,
            noise=noise,
            prior=prior,
            train_size=train_size,
            kl_weight=kl_weight,
            seed=seed,
            pruned=pruned,
            **kwargs,
        )
        self.estimator = estimator

    def linear(self, inputs, kernel):
        """The layer's linear operation with any kernel: no bias, no activation."""
        raise NotImplementedError

    def square_linear(self, inputs, scale, variance=None):
        """As the function `square_linear`, of the layer's `linear`."""
        return square_linear(self.linear, inputs, scale, variance)

    @property
    def linear_maps(self):
        """The `LinearMap`s that the layer is, in a row."""
        axes = self.unit_axes, self.channel_axes
        return (LinearMap(self.kernel_name, self.linear, self.square_linear, *axes),)

    def prepare(self, inputs):
        """Inputs as `linear` takes them."""
        return ops.cast(inputs, self.compute_dtype)

    def build(self, input_shape):
        self.check_input_shape(input_shape)
        super().build(input_shape)
        self.set_random_weights(
            RandomWeight(self, getattr(self, x.kernel), x.unit_axes, x.kernel, index)
            for index, x in enumerate(self.linear_maps)
        )

    def check_input_shape(self, input_shape):
        """Raise ValueError if the layer can't be built for inputs of this shape."""
        rank, (axes, _) = self.input_spec.min_ndim, self.channel_axes
        if len(input_shape) < rank or any(input_shape[axis] is None for axis in axes):
            raise ValueError(
                f"Layer '{self.name}' needs an input of at least {rank} axes with "
                f"a known number of channels (axis {axes[0]}). "
                f"Received: input_shape={input_shape}"
            )

    def call(self, inputs):
        seed = Stream(self.seed_generator.next())
        return self._drawn_outputs(self.random_linears(), inputs, seed)

    def _drawn_outputs(self, random_linears, inputs, seed):
        x, streams = self.prepare(inputs), self.streams(seed)
        for random, (_, stream) in zip(random_linears, streams, strict=True):
            x = self.estimator(random, x, stream)
        return self.activate(x)

    def mean_outputs(self, inputs, **kwargs):
        x = self.prepare(inputs)
        for random in self.random_linears():
            mean = ops.zeros_like(random.scale) if random.mean is None else random.mean
            x = random.apply(x, mean)
        return self.activate(x)

    def zero_mean_outputs(self, seed, inputs, **kwargs):
        random_linears = [x._replace(mean=None) for x in self.random_linears()]
        return self._drawn_outputs(random_linears, inputs, seed)

    def drawn(self, seed):
        stock = self._stock_class()
        values = [weight.sample(stream) for weight, stream in self.streams(seed)]
        values += [] if self.bias is None else [self.bias]
        return stock.from_config(stock.get_config(self)), values

    def _stock_class(self):
        stock = [x for x in type(self).__mro__ if x in vars(keras.layers).values()]
        if not stock:
            raise ValueError(
                f"Layer '{self.name}' can't be drawn: it is made of no layer of Keras. "
                f"Received: layer={self}"
            )
        return stock[0]

    def activate(self, outputs):
        """What follows `linear`: the bias and the activation."""
        outputs = add_bias(self, outputs)
        return outputs if self.activation is None else self.activation(outputs)

    def random_linears(self) -> list[estimators.RandomLinear]:
        """The layer as its estimator sees it: linear maps in a row."""
        checks.require(self.random_weights, "layer", checks.BUILT, self)
        return [
            estimators.RandomLinear(
                without_rows(linear_map.linear),
                without_rows(linear_map.square_linear),
                weight.mean,
                weight.scale,
                self.noise,
                self.compute_dtype,
                linear_map.channel_axes,
            )
            for linear_map, weight in zip(
                self.linear_maps, self.random_weights, strict=True
            )
        ]

    @property
    def channel_axes(self):
        """Axes of the inputs, and of the outputs, that are axes of the kernel too."""
        axis = 1 if _channels_first(self) else -1
        return (axis,), (axis,)

    @property
    def phi(self):
        """φ, a variable; None if the posterior has none."""
        return self._random_kernel.phi if self.built else None

    @property
    def mask(self):
        """A variable, true for weights that are left; None without pruned ones."""
        return self._random_kernel.mask if self.built else None

    @property
    def prior_variables(self):
        """As `RandomWeight.prior_variables`, of the kernel."""
        return self._random_kernel.prior_variables

    @property
    def kernel_mean(self):
        """Means of the weights, a tensor; None stands for 0 everywhere."""
        return self._random_kernel.mean

    @property
    def kernel_scale(self):
        """Standard deviations of the weights, up to sign: a tensor."""
        return self._random_kernel.scale

    @property
    def log_alpha(self):
        """log(variance / mean²) of the weights; broadcasts to the kernel."""
        return self._random_kernel.log_alpha

    def keep(self, mask):
        """As `RandomWeight.keep`, of the kernel."""
        self._random_kernel.keep(mask)

    def posterior_distribution(self):
        """As `RandomWeight.distribution`, of the kernel."""
        return self._random_kernel.distribution()

    @property
    def _random_kernel(self) -> RandomWeight:
        checks.require(self.random_weights, "layer", checks.BUILT, self)
        if len(self.random_weights) > 1:
            names = ", ".join(f"'{weight.name}'" for weight in self.random_weights)
            raise ValueError(
                f"Layer '{self.name}' has several random kernels, {names}: use its "
                f"`random_weights`. Received: layer={self}"
            )
        return self.random_weights[0]

    def get_config(self):
        estimator = keras.saving.serialize_keras_object(self.estimator)
        return {**super().get_config(), "estimator": estimator}


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
