"""`propagate_moments`: the predictive distribution in one pass, without a sample."""

import dataclasses
import inspect

import keras
from keras import ops, tree

from keras_variance import _keras, checks
from keras_variance.transforms.moments import attention, dependence, heads
from keras_variance.transforms.moments.estimated import estimated
from keras_variance.transforms.moments.linear import noise
from keras_variance.transforms.moments.rules import (
    Moments,
    UnsupportedError,
    find_rule,
    has_rule,
)
from keras_variance.transforms.outputs import for_outputs, resolve
from keras_variance.transforms.sources import (
    DROPOUTS,
    check_random,
    hides_noise,
    is_source,
)
from keras_variance.transforms.walk import (
    Interpreter,
    Known,
    output_mask,
    partial,
)
from keras_variance.types import AnyLikelihood


def propagate_moments(
    model: keras.Model,
    likelihood: AnyLikelihood = "auto",
    head: str | heads.Head = "quasi_monte_carlo",
    dropout: bool = False,
    statistics: bool = False,
    fallback_samples: int | None = None,
) -> keras.Model:
    """A model that carries mean and variance of activations in place of samples.

    What comes before the first random layer runs as it is. From there on each layer's
    rule (see `keras_variance.moments`) gives the moments of its output from those of
    its input, which is taken as independent and Gaussian; a softmax, the head, turns
    Gaussian logits into average probabilities. Deterministic: the limit of `ensemble`
    for many samples, but for those two assumptions. After a variance layer with a
    known input they are exact up to the next linear layer. After several such layers
    they are not: units that share random inputs are dependent, which is ignored, and
    the mutual information comes out too low.

    A layer without a rule that is made of others, as a block of a transformer, has the
    moments of the calls that it makes, if Keras can trace these.

    Branches of one random value that meet again are dependent too. Sums, differences
    and concatenations of multiples of one value are exact. In other sums and
    concatenations the mean is right and the covariance ignored: of two branches the
    variance may come out as half the right one, or far too large, and a
    `DependenceWarning` names the layers. Products and maxima of dependent values have
    another mean: they are refused.

    With `fallback_samples` nothing is: what has no rule, as attention with random
    queries, is called with that many draws of its inputs, which are taken as
    independent and Gaussian, and dependent values are multiplied as if they were
    independent, with the warning. The draws are fixed: the result stays deterministic.

    Args:
        model: A built model with variance layers, or with `dropout`; of a subclassed
            one Keras must be able to trace the call.
        likelihood: What outputs mean: `"auto"`, a name, a
            `keras_variance.likelihoods.Likelihood`, None, or one for each output, as
            for `mc_predict`. Logits are turned into probabilities by the head, or by
            a sigmoid.
        head: How the softmax of Gaussian logits is averaged, here and in the model:
            `"quasi_monte_carlo"`, over fixed points, with the logits' covariance,
            `"mean_field"`, or a `heads.Head`.
        dropout: Whether dropout layers are noise too, as in training, or do
            nothing.
        statistics: Whether each output is a dict as `predictive` returns it: `mean`,
            `variance`, and `expected_entropy` (in nats) or `aleatoric`.
        fallback_samples: Even integer ≥ 4, or None, for an error in their place.

    Returns:
        A Keras model with the same inputs, weights and losses, whose outputs are
        what those of `average` are in the limit of many samples, in single precision:
        means, of probabilities the predictive distribution.

    Raises:
        ValueError: If nothing in the model is random, or it cannot be inspected, or
            a layer after a random one has no rule, reads a mask, or multiplies
            dependent values, without `fallback_samples`.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), VarianceDense(8, "relu"), keras.layers.Dense(3)]
    ... )
    >>> moments = propagate_moments(model, likelihood="categorical")
    >>> p = moments.predict(np.ones((2, 4)), verbose=0)
    >>> bool(np.allclose(p.sum(axis=-1), 1))
    True

    Reference: Wang & Manning, Fast dropout training (ICML 2013); Variance Networks
    (https://arxiv.org/abs/1803.03764): test-time averaging.
    """
    check_random(model, checks.flag("dropout", dropout))
    checks.require(model.built, "model", checks.BUILT, model)
    likelihood = resolve(model, likelihood)
    result = MomentPropagation(
        model, likelihood, head, dropout, statistics, fallback_samples
    )
    result.check()
    return result.as_model()


class _Unopened(Exception):
    """A layer is to be estimated as a whole."""

    def __init__(self, layer):
        super().__init__(layer.name)
        self.layer = layer


@keras.saving.register_keras_serializable("keras_variance")
class MomentPropagation(Interpreter):
    """A model, walked with `Moments`: the one layer of `propagate_moments`."""

    def __init__(
        self,
        model,
        likelihood=None,
        head="quasi_monte_carlo",
        dropout=False,
        statistics=False,
        fallback_samples=None,
        **kwargs,
    ):
        super().__init__(model, **kwargs)
        self.likelihood = likelihood
        self.head = heads.get(head)
        self.dropout = checks.flag("dropout", dropout)
        self.statistics = checks.flag("statistics", statistics)
        self.fallback_samples = fallback_samples
        if fallback_samples is not None:
            checks.integer("fallback_samples", fallback_samples, minimum=4, multiple=2)
        self._closed = ()  # identities of layers that are estimated as a whole

    def call(self, inputs, training=None, mask=None):
        inputs = self.standardized(inputs, mask)
        while True:
            noise = is_source(self.dropout)
            program = partial(self.model, inputs, noise, self._opens, training)
            try:
                outputs = map(_moments, program.run(self._caller()))
                break
            except _Unopened as found:
                self._closed += (id(found.layer),)
        each = for_outputs(self.likelihood, program.outputs)
        outputs = [
            self._finish(x, likelihood)
            for x, likelihood in zip(outputs, each, strict=True)
        ]
        return tree.pack_sequence_as(program.outputs, outputs)

    def _opens(self, operation):
        return _lacks_rule(operation) and id(operation) not in self._closed

    def _caller(self):
        """A function of (step, args, kwargs) that returns `Moments`."""
        fallback, hides_one = self.fallback_samples, hides_noise(self.dropout)

        def call(step, args, kwargs):
            operation, within, source = step.operation, step.within, step.is_source
            known = tree.map_structure(_moments, (args, kwargs))
            # The values inside of a layer depend on each other, its inputs may not
            closes = within and id(operation) not in self._closed
            closes = closes and not hides_one(within)
            strict = closes or fallback is None
            try:
                return propagate(operation, *known, self.head, source, strict)
            except UnsupportedError as error:
                if fallback is None and within is None:
                    raise
                if fallback is None:
                    text = f"In layer '{within.name}': {error}"
                    raise UnsupportedError(text) from None
            if closes:
                raise _Unopened(within)
            return estimated(step, args, kwargs, fallback)

        return call

    def _finish(self, x, likelihood):
        x = predictions(x, likelihood, self.head)
        if not self.statistics and (likelihood is None or likelihood.linear):
            return x.mean
        statistics = statistics_of(x.known(), likelihood)
        return (
            ordered(statistics) if self.statistics else likelihood.matched(statistics)
        )

    def compute_output_spec(self, inputs, training=None, mask=None):
        specs = self.model.compute_output_spec(inputs)
        each = for_outputs(self.likelihood, specs)
        flat = [
            statistics_spec(spec, likelihood) if self.statistics else float_spec(spec)
            for spec, likelihood in zip(tree.flatten(specs), each, strict=True)
        ]
        return tree.pack_sequence_as(specs, flat)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        config = {
            "likelihood": serialize(self.likelihood),
            "head": serialize(self.head),
            "dropout": self.dropout,
            "statistics": self.statistics,
            "fallback_samples": self.fallback_samples,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        likelihood = keras.saving.deserialize_keras_object(config["likelihood"])
        return super().from_config({**config, "likelihood": likelihood})


def float_spec(spec, shape=None):
    """Symbolic, of single precision at least, with another shape if it is given."""
    dtype = keras.backend.result_type(spec.dtype, "float32")
    return keras.KerasTensor(spec.shape if shape is None else shape, dtype)


def statistics_spec(spec, likelihood, samples=None):
    """Symbolic statistics of an output: `mean`, `variance`, and so on."""
    x = Moments(float_spec(spec), float_spec(spec))
    shapes = {name: x.shape for name, x in statistics_of(x, likelihood).items()}
    if samples is not None:
        batch, *rest = shapes["mean"]
        shapes["samples"] = (batch, samples, *rest)
    # Keras tells outputs apart by identity
    return {name: float_spec(spec, shapes[name]) for name in ordered(shapes)}


def statistics_of(x, likelihood):
    """What `Likelihood.statistics` says of the `Moments` of parameters."""
    if likelihood is None:
        statistics = {"mean": x.mean, "variance": x.variance}
    else:
        statistics = likelihood.statistics(x)
    return {key: value for key, value in statistics.items() if value is not None}


def ordered(statistics):
    """By name: on PyTorch Keras does not sort a dict inside of another one, and would
    take the variance for the entropy."""
    return dict(sorted(statistics.items()))


def propagate(operation, args, kwargs, head, is_source=False, strict=True):
    """The moments of `operation(*args, **kwargs)`, by its rule.

    Args:
        operation: A layer, an operator or a function.
        args, kwargs: Of its call, with `Moments` for values of the model's graph.
        head: The rule of a softmax.
        is_source: Whether it has noise of its own.
        strict: Whether dependent values whose moments do not follow from theirs are
            refused; else they count as independent, with a warning.

    Raises:
        ValueError: If it has no rule, reads a mask, is called with more than its rule
            takes, or merges dependent values.
    """
    values = [x for x in tree.flatten((args, kwargs)) if isinstance(x, Moments)]
    masks = [_keras.get_mask(x.mean) for x in values]
    masks = [each for each in masks if each is not None]
    if masks and _reads_mask(operation):
        raise UnsupportedError(
            f"Layer '{operation.name}' reads a mask, which moments do not have: use "
            f"`keras_variance.mc_predict`. Received: {operation}"
        )
    rule = _rule(operation, head, is_source)
    inputs = _inputs(operation, args, kwargs)
    mask = _mask_argument(operation, args, kwargs)
    if mask is None:
        x = rule(operation, inputs)
    else:
        mean = ops.where(mask, inputs.mean, attention.MASKED)
        x = rule(operation, dataclasses.replace(inputs, mean=mean))
        x = x.map(lambda y: ops.where(mask, y, 0))
    x = dependence.follow(operation, rule, values, x, is_source, strict)
    activation = getattr(operation, "activation", None)
    if activation is not None:
        x = _rule(activation, head)(activation, x).from_(x.origins)
    if isinstance(operation, keras.Layer):
        means = tree.map_structure(lambda x: x.mean, inputs)
        _keras.set_mask(x.mean, output_mask(operation, means))
    return x


def _inputs(operation, args, kwargs):
    """What a rule takes: one `Moments`, or a list for what merges several."""
    if isinstance(operation, keras.Layer):
        return tree.map_structure(_constant, args[0])
    inputs = [*args, *kwargs.values()]  # an operator, such as that of `x + y`
    if isinstance(operation, _keras.GetItem):
        return inputs
    (dtype, *_) = (x.mean.dtype for x in tree.flatten(inputs) if isinstance(x, Moments))

    def moments(x):
        # A constant of NumPy has double precision, which TensorFlow does not convert
        known = x is None or isinstance(x, Moments)
        return x if known else Moments.of(ops.cast(x, dtype))

    inputs = tree.map_structure(moments, inputs)
    return inputs[0] if len(inputs) == 1 else inputs


def _mask_argument(operation, args, kwargs):
    """The mask that a softmax is called with, or None.

    Raises:
        ValueError: If a layer is called with anything else that its rule does not take.
    """
    if not isinstance(operation, keras.Layer):
        return None
    names = [*inspect.signature(operation.call).parameters]
    further = {**dict(zip(names[1:], args[1:], strict=False)), **kwargs}
    given = {k: x for k, x in further.items() if k != "training" and x is not None}
    if not given or (not _reads_mask(operation) and [*given] == ["mask"]):
        return None
    if _is_softmax(operation) and [*given] == ["mask"]:
        mask = _constant(given["mask"])
        if mask.variance is None:
            return mask.mean > 0.5
    raise UnsupportedError(
        f"Layer '{operation.name}' is called with {', '.join(given)}, which its rule "
        "for moments does not take: use `keras_variance.mc_predict`. "
        f"Received: {operation}"
    )


def _constant(x):
    """A tensor among the inputs of a layer that merges as `Moments`, too."""
    return x if isinstance(x, Moments) else Moments.of(x)


def _is_softmax(operation):
    kinds = keras.layers.Softmax | _keras.Softmax
    return isinstance(operation, kinds) or operation is keras.activations.softmax


def _rule(operation, head, is_source=False):
    if _is_softmax(operation):
        return head
    if is_source and isinstance(operation, DROPOUTS):
        return noise
    return find_rule(operation)


def _lacks_rule(operation):
    """Whether it is a layer whose moments may follow from those of its parts."""
    if not isinstance(operation, keras.Layer) or _is_softmax(operation):
        return False
    return not isinstance(operation, DROPOUTS) and not has_rule(operation)


def _reads_mask(operation):
    # In inference BatchNormalization does not
    if isinstance(operation, keras.layers.BatchNormalization):
        return False
    call = getattr(operation, "call", None)
    return call is not None and "mask" in inspect.signature(call).parameters


def _moments(value):
    """A value of the model's graph as `Moments`."""
    return Moments.of(value.tensor) if isinstance(value, Known) else value


def predictions(x, likelihood, head):
    """The moments of the parameters that an output stands for: of probabilities, if it
    is logits."""
    if likelihood is None or likelihood.link is None:
        return x
    return _rule(likelihood.link, head)(likelihood.link, x.known())
