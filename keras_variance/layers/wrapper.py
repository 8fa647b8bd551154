"""`VarianceWrapper`: any layer with random weights."""

import functools
import re

import keras
from keras import ops

from keras_variance import _keras, checks, estimators
from keras_variance.distributions import noises, posteriors, priors
from keras_variance.layers.paths import layer_paths, variance_layers
from keras_variance.layers.weight import RandomWeight
from keras_variance.layers.weights import RandomWeights
from keras_variance.random import Stream


@keras.saving.register_keras_serializable("keras_variance")
class VarianceWrapper(RandomWeights, _keras.BuildsInner, keras.layers.Wrapper):
    """Any Keras layer with random weights, drawn once per call.

    Each chosen weight is `mean + scale · noise`, as the kernel of a `VarianceLayer`. A
    call of the wrapper draws all of them and runs the layer with the draw in their
    place, in training and in inference: weight sampling. The examples of a batch share
    the draw, and so do the time steps of a recurrent layer.

    The wrapper is called as the layer is: masks, initial states, several inputs and all
    other arguments reach it. With a `prior`, the wrapper has the loss
    `kl_weight · KL / train_size`, over all chosen weights.

    Args:
        layer: A Keras layer, built or not: recurrent, attention, a `Bidirectional`, a
            model, or your own. Its variables are θ.
        weights: Which weights are random: a regular expression, or a list of them,
            that is found in the weight's path inside of the layer, as `"kernel"` in
            `"lstm_cell/recurrent_kernel"`; or its number among the weights of the
            layer. Defaults to all trainable weights of two
            axes or more but biases and those of normalization (`bias`, `gamma`,
            `beta`).
        posterior: As for `VarianceLayer`, but with means by default: a recurrent layer
            whose draw all examples share learns little from variances alone. The last
            axis of a weight indexes its output units.
        noise, prior, train_size, kl_weight, seed, pruned: As for `VarianceLayer`.
        **kwargs: `name`, `trainable` and `activity_regularizer`.

    Raises:
        ValueError: As `VarianceLayer`; if the layer is a variance layer, has one
            inside, is quantized, has LoRA weights, or has no such weights; in a call,
            if the layer does not read one of them, or assigns to it.

    Example:

    >>> import numpy as np
    >>> digits = np.random.default_rng(0).random((32, 8, 8))  # 8 rows of 8 pixels
    >>> lstm = VarianceWrapper(keras.layers.LSTM(16), prior="ard", train_size=32)
    >>> [weight.name for weight in lstm.random_weights]  # it is not built
    []
    >>> model = keras.Sequential(
    ...     [keras.Input((8, 8)), lstm, keras.layers.Dense(10, "softmax")]
    ... )
    >>> [weight.name for weight in lstm.random_weights]
    ['lstm_cell/kernel', 'lstm_cell/recurrent_kernel']
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> history = model.fit(digits, np.arange(32) % 10, verbose=0)
    >>> first, second = (model.predict(digits, verbose=0) for _ in range(2))
    >>> bool(np.all(first == second))  # another draw each call
    False

    Reference: Fortunato, Blundell & Vinyals, Bayesian Recurrent Neural Networks
    (https://arxiv.org/abs/1704.02798), section 3.
    """

    estimator = estimators.WeightSampling()

    def __init__(
        self,
        layer: keras.Layer,
        weights: str | int | list[str | int] | None = None,
        posterior: str | dict | posteriors.Posterior = "layer_alpha",
        noise: str | dict | noises.Noise = "gaussian",
        prior: str | dict | priors.Prior | None = None,
        train_size: float | None = None,
        kl_weight: float = 1.0,
        seed: int | None = None,
        pruned: bool = False,
        **kwargs,
    ):
        is_layer = isinstance(layer, keras.Layer)
        checks.require(is_layer, "layer", "a Keras layer", layer)
        _check_own_weights(layer)
        patterns = None if weights is None else _patterns(weights)

        @functools.wraps(layer.call)  # its arguments are the wrapper's
        def call(*args, **kwargs):
            seed = Stream(self.seed_generator.next())
            draw = [weight.sample(each) for weight, each in self.streams(seed)]
            return self._outputs(draw, args, kwargs)

        self.call = call
        super().__init__(
            layer,
            posterior=posterior,
            noise=noise,
            prior=prior,
            train_size=train_size,
            kl_weight=kl_weight,
            seed=seed,
            pruned=pruned,
            # What the layer computes in another precision it casts itself
            dtype=layer.variable_dtype,
            autocast=False,
            **kwargs,
        )
        self.patterns = patterns
        self.supports_masking = True

    def build(self, *args, **kwargs):
        if not self.layer.built:
            self.layer.build(*args, **kwargs)
        _check_own_weights(self.layer)
        self.set_random_weights(
            RandomWeight(self, variable, name=name, index=index)
            for index, name, variable in self._chosen()
        )

    def _chosen(self):
        """(number, path, variable) of the weights that are to be random. The numbers
        are those of all weights, so that others chosen have other variables in a file.
        """
        weights = [(index, *each) for index, each in enumerate(named(self.layer))]
        if self.patterns is None:
            chosen = [each for each in weights if is_kernel(each[2])]
            expected = "a layer that has trainable weights of two axes or more"
            checks.require(chosen, "layer", expected, self.layer)
            return chosen
        names = [name for _, name, _ in weights]
        expected = f"found in some of {names}, the weights of '{self.layer.name}'"
        for pattern in self.patterns:
            found = any(_means(pattern, *each[:2]) for each in weights)
            checks.require(found, "weights", expected, pattern)
        return [
            (index, name, variable)
            for index, name, variable in weights
            if any(_means(pattern, index, name) for pattern in self.patterns)
        ]

    def load_own_variables(self, store):
        centers = {
            weight.prior_variables["center"].name
            for weight in self.random_weights
            if "center" in weight.prior_variables
        }
        if not centers <= {*store.keys()}:
            # Keras loads the layer inside after this: no center can start from it
            raise ValueError(
                f"Layer '{self.name}' can't start the center of its prior from a file "
                "without one: load the file into a wrapper with another prior, and "
                f"wrap its `layer` anew. Received: prior={self.prior!r}"
            )
        super().load_own_variables(store)

    def mean_outputs(self, *args, **kwargs):
        means = [
            ops.zeros_like(weight.scale) if weight.mean is None else weight.mean
            for weight in self.random_weights
        ]
        return self._outputs(means, args, kwargs)

    def zero_mean_outputs(self, seed, *args, **kwargs):
        draw = [weight.deviation(each) for weight, each in self.streams(seed)]
        return self._outputs(draw, args, kwargs)

    def drawn(self, seed):
        draw = {
            id(weight.variable): weight.sample(each)
            for weight, each in self.streams(seed)
        }
        values = [draw.get(id(each), each) for each in self.layer.variables]
        return _keras.clone(self.layer, name=self.name), values

    def _outputs(self, values, args, kwargs):
        """What the layer returns with values in the place of its random weights."""
        _check_own_weights(self.layer)
        variables = [weight.variable for weight in self.random_weights]
        values = [
            ops.saturate_cast(value, variable.dtype)
            for variable, value in zip(variables, values, strict=True)
        ]
        with _keras.Substitution(variables, values) as scope:
            outputs = self.layer(*args, **kwargs)
        for weight in self.random_weights:
            if id(weight.variable) not in scope.read:
                raise ValueError(
                    f"Layer '{self.layer.name}' does not read its weight "
                    f"'{weight.name}' from Keras in this call: a draw of it has no "
                    "effect. Choose others by the argument `weights`. "
                    f"Received: weights={self.patterns}"
                )
        for loss in scope.own_losses:
            self.add_loss(loss)
        return outputs

    def compute_output_shape(self, *args, **kwargs):
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_mask(self, inputs, previous_mask):
        if self.layer.supports_masking:
            return self.layer.compute_mask(inputs, previous_mask)
        return None

    def get_build_config(self):
        return self.layer.get_build_config()

    def get_config(self):
        config = {**super().get_config(), "weights": self.patterns}
        del config["dtype"]  # the layer's
        return config


def named(layer):
    """(path, variable) of the weights of a layer that were made to be trained, those of
    the layers inside of it too, each once."""
    found = {}
    for path, each in layer_paths(layer).items():
        for variable in _keras.made_trainable(each):
            name = f"{path}/{variable.name}".lstrip("/")
            found.setdefault(id(variable), (name, variable))  # it may be shared
    return list(found.values())


def is_kernel(variable):
    """Whether a weight is random by default. Some biases have two axes."""
    no_kernel = re.search("bias|gamma|beta", variable.name)
    return len(variable.shape) > 1 and not no_kernel


def _means(pattern, index, name):
    """Whether a weight with this number and path is one that a pattern means."""
    number = isinstance(pattern, int)
    return pattern == index if number else bool(re.search(pattern, name))


def _patterns(weights):
    """Regular expressions, and numbers, in a list."""
    patterns = list(weights) if isinstance(weights, list | tuple) else [weights]
    try:
        known = patterns and all(map(_is_pattern, patterns))
    except re.error:
        known = False
    expected = "regular expressions, or numbers of weights"
    checks.require(known, "weights", expected, weights)
    return patterns


def _is_pattern(value):
    if isinstance(value, int) and not isinstance(value, bool):
        return value >= 0
    return isinstance(value, str) and bool(value) and bool(re.compile(value))


def _check_own_weights(layer):
    """Raise ValueError if a layer computes with other weights than its variables."""
    for each in variance_layers(layer):
        raise ValueError(
            f"Layer '{each.name}' draws its weights itself: wrap a layer without "
            f"random weights. Received: layer={layer}"
        )
    for each in layer_paths(layer).values():
        if getattr(each, "quantization_mode", None) is not None:
            reason = "is quantized"
        elif getattr(each, "lora_enabled", False):
            reason = "has LoRA weights"
        else:
            continue
        raise ValueError(
            f"Layer '{each.name}' {reason}: its weights cannot be drawn. "
            f"Received: layer={layer}"
        )
