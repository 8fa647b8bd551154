"""`propagate_moments`: the predictive distribution in one pass, without a sample."""

import inspect

import keras
from keras import ops, tree

from keras_variance import categorical
from keras_variance.layers import variance_layers
from keras_variance.moments import activations, heads, linear
from keras_variance.moments.merging import known
from keras_variance.moments.rules import Moments, find_rule
from keras_variance.transforms.rewrite import (
    find_variance_layers,
    functional,
    has_mask,
    is_functional,
    new_inputs,
    walk,
)


def propagate_moments(
    model,
    from_logits: bool = False,
    head="quasi_monte_carlo",
    dropout: bool = False,
    statistics: bool = False,
):
    """A model that carries mean and variance of activations in place of samples.

    What comes before the first variance layer runs as it is. From there on each
    layer's rule (see `keras_variance.moments`) gives the moments of its output from
    those of its input, which is taken as independent and Gaussian; a softmax, the
    head, turns Gaussian logits into average probabilities. Deterministic: the
    limit of `ensemble` for many samples, but for those two assumptions. After a
    variance layer with a known input they are exact up to the next linear layer.
    Behind several such layers they are not: units that share random inputs are
    dependent, which is ignored, and the mutual information comes out too low.

    Args:
        model: A built Sequential or Functional model with variance layers.
        from_logits: Whether outputs are logits, to be turned into probabilities by
            the head, or a sigmoid where there is one.
        head: How the softmax of Gaussian logits is averaged, here and in the model:
            `"quasi_monte_carlo"`, over fixed points, with the logits' covariance,
            `"mean_field"`, or a `heads.Head`.
        dropout: Whether dropout layers are noise too, as in training, or do
            nothing.
        statistics: Whether each output is a dict of `mean`, `variance` and
            `entropy` (the expected entropy over the last axis, in nats).

    Returns:
        A Keras model with the same inputs and weights, whose outputs are means
        (of probabilities: the predictive distribution), in single precision.

    Raises:
        ValueError: If the model has no variance layer, can't be seen into, or has a
            layer behind one that has no rule or reads a mask.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), VarianceDense(8, "relu"), keras.layers.Dense(3)]
    ... )
    >>> moments = propagate_moments(model, from_logits=True)
    >>> p = moments.predict(np.ones((2, 4)), verbose=0)
    >>> bool(np.allclose(p.sum(axis=-1), 1))
    True

    Reference: Wang & Manning, Fast dropout training (ICML 2013); Variance Networks
    (https://arxiv.org/abs/1803.03764): test-time averaging.
    """
    find_variance_layers(model)
    layer = MomentPropagation(model, from_logits, head, dropout, statistics)
    layer.check_rules()
    inputs = new_inputs(model)
    return keras.Model(inputs, layer(inputs), name=model.name)


@keras.saving.register_keras_serializable("keras_variance")
class MomentPropagation(keras.Layer):
    """A whole model, walked with `Moments`: the one layer of `propagate_moments`."""

    def __init__(
        self,
        model,
        from_logits=False,
        head="quasi_monte_carlo",
        dropout=False,
        statistics=False,
        **kwargs,
    ):
        super().__init__(**{"name": "moments", "autocast": False, **kwargs})
        self.model = functional(model)
        self.from_logits = from_logits
        self.head = heads.get(head)
        self.dropout = dropout
        self.statistics = statistics

    def call(self, inputs):
        outputs = self._walk(inputs, self._propagate)
        return tree.map_structure(self._finish, outputs)

    def check_rules(self):
        """Raise ValueError if moments reach a layer that has no rule for them."""

        def masked(x):
            return x.mean if isinstance(x, Moments) else has_mask(x)

        def check(operation, inputs):
            self._rule(operation)
            if _activation(operation) is not None:
                self._rule(_activation(operation))
            has = any(masked(x) for x in tree.flatten(inputs))
            if has and _reads_mask(operation):
                raise ValueError(
                    f"Layer '{operation.name}' reads a mask, which moments do not "
                    "have: use `keras_variance.mc_predict`. "
                    f"Received: {operation}"
                )
            # In place of moments: whether they would have a mask
            return Moments(has and getattr(operation, "supports_masking", False))

        self._walk(new_inputs(self.model), check)

    def _walk(self, inputs, propagate):
        def call(operation, *args, **kwargs):
            random = any(isinstance(x, Moments) for x in tree.flatten((args, kwargs)))
            if not random and not self._is_source(operation):
                return operation(*args, **kwargs)
            if is_functional(operation):
                return walk(operation, args[0], call)
            # An operator, such as that of `x + y`, has several arguments
            inputs = [*args, *kwargs.values()]
            if isinstance(operation, keras.Layer) or len(inputs) == 1:
                inputs = inputs[0]
            return propagate(operation, inputs)

        return walk(self.model, inputs, call)

    def _is_source(self, operation):
        if not isinstance(operation, keras.Layer):
            return False
        noisy = self.dropout and isinstance(operation, linear.DROPOUTS)
        return noisy or bool(variance_layers(operation))

    def _propagate(self, operation, inputs):
        x = self._rule(operation)(operation, tree.map_structure(_moments, inputs))
        activation = _activation(operation)
        return x if activation is None else self._rule(activation)(activation, x)

    def _rule(self, operation):
        is_softmax = isinstance(operation, keras.layers.Softmax)
        if is_softmax or operation is keras.activations.softmax:
            return self.head
        if self.dropout and isinstance(operation, linear.DROPOUTS):
            return linear.dropout_noise
        return find_rule(operation)

    def _finish(self, x):
        x = known(_moments(x))
        if self.from_logits:
            binary = x.mean.shape[-1] == 1
            head = activations.sigmoid if binary else self.head
            x = head(keras.activations.sigmoid if binary else None, x)
        return _statistics(x) if self.statistics else x.mean

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        config = {
            "model": serialize(self.model),
            "from_logits": self.from_logits,
            "head": serialize(self.head),
            "dropout": self.dropout,
            "statistics": self.statistics,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})


def _moments(value):
    """A value that flows through the model as `Moments`."""
    if isinstance(value, Moments):
        return value
    value = ops.convert_to_tensor(value)
    dtype = keras.backend.result_type(value.dtype, "float32")
    return Moments(ops.cast(value, dtype))


def _activation(operation):
    return getattr(operation, "activation", None)


def _reads_mask(operation):
    # In inference BatchNormalization does not
    normalizes = isinstance(operation, keras.layers.BatchNormalization)
    return not normalizes and "mask" in inspect.signature(operation.call).parameters


def _statistics(x):
    """The outputs for `statistics`.

    Where the expected entropy of probabilities p isn't known, it is expanded to the
    second order: H[E[p]] − ½ Σ Var[pᵢ] / E[pᵢ].
    """
    if len(x.mean.shape) < 2:
        entropy = ops.zeros_like(x.mean)
    elif x.entropy is not None:
        entropy = x.entropy()
    else:
        ratio = x.variance / ops.maximum(x.mean, 1e-30)
        entropy = categorical.entropy(x.mean) - ops.sum(ratio, axis=-1) / 2
    return {"mean": x.mean, "variance": x.variance, "entropy": entropy}
