"""Likelihoods: what the outputs of a model mean.

A likelihood alone knows how outputs become probabilities, how likely labels are, and
what accuracy and entropy are. With outputs of shape (batch, …, n), n classes or n
binary variables:

| likelihood  | probabilities p     | log p(y)                   | entropy    |
|-------------|---------------------|----------------------------|------------|
| categorical | softmax, last axis  | log p_y                    | −Σ p log p |
| bernoulli   | sigmoid, each entry | Σ y log p + (1−y) log(1−p) | Σ H(p)     |

Entropies and log-likelihoods are in nats, of shape (batch, …).
"""

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops, tree

from keras_variance import _keras, checks, families

__all__ = [
    "MEMBERS",
    "Bernoulli",
    "Categorical",
    "Likelihood",
    "get",
]

TINY = 1e-30


class Likelihood(families.Member):
    """Base of the likelihoods.

    Args:
        from_logits: Whether outputs are logits, not probabilities.
    """

    family = "likelihood"
    link: Callable  # the activation that turns logits into probabilities

    def __init__(self, from_logits: bool = False):
        self.from_logits = checks.flag("from_logits", from_logits)

    def predictions(self, outputs):
        """Probabilities, of outputs: tensors (batch, …, n)."""
        return self.link(outputs) if self.from_logits else outputs

    def entropy(self, p):
        """Entropy in nats of probabilities: a tensor (batch, …)."""
        raise NotImplementedError

    def expected_entropy(self, mean, variance):
        """E[H(p)] of random probabilities, to second order: a tensor (batch, …)."""
        raise NotImplementedError

    def log_likelihood(self, y, p):
        """log p(y) in nats: an array (batch, …).

        Args:
            y: Labels, an array.
            p: Probabilities, an array (batch, …, n).

        Raises:
            ValueError: For labels of another shape, out of range, or NaN.
        """
        raise NotImplementedError

    def accuracy(self, y, p):
        """Share of labels that are the most probable ones: a float. As above."""
        raise NotImplementedError

    def as_classes(self, y, p):
        """Integer labels (m,) and class probabilities (m, classes): a row for each
        label. As above."""
        raise NotImplementedError

    def get_config(self):
        return {"from_logits": self.from_logits}


@keras.saving.register_keras_serializable("keras_variance.likelihoods")
class Categorical(Likelihood):
    """One of n classes, along the last axis.

    Labels are integers, (batch, …) or (batch, …, 1), or one-hot, (batch, …, n).

    Example:

    >>> likelihood = Categorical()
    >>> likelihood.log_likelihood([0, 1], np.array([[1.0, 0.0], [0.5, 0.5]]))
    array([ 0.        , -0.69314718])
    """

    link = staticmethod(keras.activations.softmax)

    def entropy(self, p):
        return -ops.sum(p * ops.log(ops.maximum(p, TINY)), axis=-1)

    def expected_entropy(self, mean, variance):
        ratio = variance / ops.maximum(mean, TINY)
        return self.entropy(mean) - ops.sum(ratio, axis=-1) / 2

    def log_likelihood(self, y, p):
        y, p = self._one_hot(y, p), np.asarray(p)
        return np.sum(y * np.log(np.maximum(p, TINY)), axis=-1)

    def accuracy(self, y, p):
        labels, p = self.as_classes(y, p)
        return _share(p.argmax(axis=-1) == labels, p)

    def as_classes(self, y, p):
        labels = self._one_hot(y, p).argmax(axis=-1)
        return labels.ravel(), np.reshape(p, (-1, np.shape(p)[-1]))

    def _one_hot(self, y, p):
        *shape, classes = np.shape(p)
        y = _numbers(y)
        if y.shape == (*shape, classes) and classes > 1:
            off = (y < 0) | (np.abs(y.sum(axis=-1, keepdims=True) - 1) > 1e-3)
            _check(not off.any(), y, "one-hot: not negative, with a sum of 1")
            return y
        fits = y.shape in ((*shape,), (*shape, 1))
        _check(
            fits, y, f"integers of shape {(*shape,)}, or one-hot, {(*shape, classes)}"
        )
        integers = (y == np.floor(y)) & (y >= 0) & (y < classes)
        _check(integers.all(), y, f"integers from 0 to {classes - 1}")
        return np.eye(classes)[y.reshape(shape).astype("int64")]


# A noise of the same name is registered with the package alone
@keras.saving.register_keras_serializable("keras_variance.likelihoods")
class Bernoulli(Likelihood):
    """Independent binary variables, one for each entry of the last axis.

    Labels are 0 or 1, (batch, …, n); n = 1 may be left out.

    Example:

    >>> likelihood = Bernoulli()
    >>> likelihood.accuracy([0, 1, 1], np.array([[0.1], [0.9], [0.2]]))
    0.6666666666666666
    """

    link = staticmethod(keras.activations.sigmoid)

    def entropy(self, p):
        return _sum_last(_binary_entropy(p))

    def expected_entropy(self, mean, variance):
        ratio = variance / ops.maximum(mean, TINY)
        ratio = ratio + variance / ops.maximum(1 - mean, TINY)
        return _sum_last(_binary_entropy(mean) - ratio / 2)

    def log_likelihood(self, y, p):
        y, p = self._binary(y, p), np.asarray(p, "float64")
        each = y * np.log(np.maximum(p, TINY))
        each = each + (1 - y) * np.log(np.maximum(1 - p, TINY))
        return each.sum(axis=-1) if each.ndim > 1 else each

    def accuracy(self, y, p):
        return _share((np.asarray(p) > 0.5) == (self._binary(y, p) > 0.5), p)

    def as_classes(self, y, p):
        labels = (self._binary(y, p) > 0.5).astype("int64").ravel()
        p = np.ravel(p)
        return labels, np.stack([1 - p, p], axis=-1)

    def _binary(self, y, p):
        y, shape = _numbers(y), np.shape(p)
        fits = y.shape == shape or (shape[-1:] == (1,) and y.shape == shape[:-1])
        _check(fits, y, f"numbers of shape {shape}")
        _check(((y >= 0) & (y <= 1)).all(), y, "0 or 1")
        return y.reshape(shape)


def _binary_entropy(p):
    return -(
        p * ops.log(ops.maximum(p, TINY)) + (1 - p) * ops.log(ops.maximum(1 - p, TINY))
    )


def _sum_last(x):
    return ops.sum(x, axis=-1) if len(x.shape) > 1 else x


def _share(right, p):
    """The share of labels that are right; NaN if a probability is."""
    return math.nan if np.isnan(p).any() else float(np.mean(right))


def _numbers(y):
    y = np.asarray(ops.convert_to_numpy(y) if ops.is_tensor(y) else y)
    numeric = np.issubdtype(y.dtype, np.number) or y.dtype == bool
    _check(numeric and not np.isnan(y).any(), y, "numbers, not NaN")
    return y


def _check(fits, y, expected):
    if not fits:
        values = np.array2string(y.ravel(), threshold=6, edgeitems=3)
        raise ValueError(
            f"Labels must be {expected}. Received: y of shape {y.shape}, y={values}"
        )


MEMBERS = {"categorical": Categorical, "bernoulli": Bernoulli}


def get(identifier):
    """A `Likelihood` from a name, a config or a `Likelihood`."""
    return families.get(identifier, Likelihood, MEMBERS)


def resolve(model, likelihood="auto"):
    """The likelihood of each output of a model.

    Args:
        model: A Keras model.
        likelihood: `"auto"`, the name of a likelihood, a likelihood or None: one for
            all outputs, or one for each in the model's structure. `"auto"` is what the
            compiled loss says, else the last activation, a softmax or a sigmoid, else
            None. Whether outputs are logits follows from these, too.

    Returns:
        A likelihood or None, for each output in the model's structure; of a subclassed
        model, whose structure is not known, as given.

    Raises:
        ValueError: For another structure, an unknown name, or a name where the model
            does not tell whether its outputs are logits.
    """
    checks.model(model)
    if not _keras.is_functional(model) or _keras.graph(model) is None:
        loss = getattr(model, "loss", None)
        loss = None if tree.is_nested(loss) else loss
        return tree.map_structure(lambda x: _resolve(x, loss, None, model), likelihood)
    graph = _keras.graph(model)
    names = graph.output_names
    each = zip(
        _for_outputs(likelihood, graph.output, names, "likelihood"),
        _for_outputs(getattr(model, "loss", None), graph.output, names, "loss"),
        graph.outputs,
        strict=True,
    )
    resolved = [_resolve(x, loss, _activation(y), model) for x, loss, y in each]
    for x, y in zip(resolved, graph.outputs, strict=True):
        if isinstance(x, Categorical) and y.shape[-1] == 1:
            raise ValueError(
                "A categorical output must have two classes or more on its last axis; "
                "one probability is 'bernoulli'. "
                f"Received: likelihood={x!r}, output.shape={y.shape}"
            )
    return tree.pack_sequence_as(graph.output, resolved)


def for_outputs(likelihood, outputs):
    """What `resolve` returned as a flat list, one for each of a model's outputs."""
    if tree.is_nested(likelihood):
        return tree.flatten(likelihood)
    return [likelihood] * len(tree.flatten(outputs))


def _for_outputs(value, structure, names, argument):
    """A flat list of a value for each output: one for all, or in a structure."""
    count = len(tree.flatten(structure))
    if not tree.is_nested(value):
        return [value] * count
    if isinstance(value, dict) and not isinstance(structure, dict):
        known = value and {*value} <= {*names}
        value = [value.get(name) for name in names] if known else []
    elif isinstance(value, dict) and not tree.is_nested(next(iter(value.values()))):
        value = {**dict.fromkeys(structure), **value}
    flat = tree.flatten(value)
    if len(flat) != count or isinstance(value, dict) != isinstance(structure, dict):
        raise ValueError(
            f"Argument `{argument}` must have a value for each of the model's "
            f"{count} outputs, in their structure. Received: {argument}={value}"
        )
    return flat


def _resolve(likelihood, loss, activation, model):
    """The likelihood of one output, from its compiled loss and last activation."""
    said = _of_loss(loss)
    by_activation = {"softmax": Categorical(), "sigmoid": Bernoulli()}.get(activation)
    if isinstance(likelihood, str) and likelihood == "auto":
        return by_activation if said == "unknown" else said
    if not isinstance(likelihood, str) or likelihood not in MEMBERS:
        return None if likelihood is None else get(likelihood)
    for known in (said, by_activation):
        if type(known) is MEMBERS[likelihood]:
            return known
    if activation is None:
        name = MEMBERS[likelihood].__name__
        raise ValueError(
            f"Argument `likelihood` must be an object here, such as "
            f"`keras_variance.likelihoods.{name}(from_logits=True)`: model "
            f"'{model.name}' does not tell whether its outputs are logits. "
            f"Received: likelihood={likelihood!r}"
        )
    return MEMBERS[likelihood](from_logits=True)


_LOSSES = {
    keras.losses.SparseCategoricalCrossentropy: Categorical,
    keras.losses.CategoricalCrossentropy: Categorical,
    keras.losses.CategoricalFocalCrossentropy: Categorical,
    keras.losses.BinaryCrossentropy: Bernoulli,
    keras.losses.BinaryFocalCrossentropy: Bernoulli,
}
_REGRESSION = (
    keras.losses.MeanSquaredError,
    keras.losses.MeanAbsoluteError,
    keras.losses.MeanAbsolutePercentageError,
    keras.losses.MeanSquaredLogarithmicError,
    keras.losses.CosineSimilarity,
    keras.losses.LogCosh,
    keras.losses.Huber,
    keras.losses.Poisson,
)


def _of_loss(loss):
    """What a loss says of an output: a likelihood, None for regression, "unknown"."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if callable(loss) and not isinstance(loss, keras.losses.Loss):
        # A function of Keras, by the class of its name
        kinds = {_snake(kind.__name__): kind for kind in (*_LOSSES, *_REGRESSION)}
        known = getattr(keras.losses, getattr(loss, "__name__", ""), None) is loss
        loss = kinds.get(loss.__name__, lambda: None)() if known else None
    for kind, likelihood in _LOSSES.items():
        if isinstance(loss, kind):
            if getattr(loss, "axis", -1) != -1:
                raise ValueError(
                    "Classes must be on the last axis of an output. "
                    f"Received: loss with axis={loss.axis}"
                )
            return likelihood(bool(loss.from_logits))
    return None if isinstance(loss, _REGRESSION) else "unknown"


def _snake(name):
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")


_ACTIVATIONS = {
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
}
# What leaves the entries of the last axis as they are
_TRANSPARENT = (
    keras.layers.ActivityRegularization,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
)


def _activation(tensor):
    """The last activation of a symbolic output: "softmax", "sigmoid", "other"; None
    where it cannot be seen, in a layer that is not Keras's or this package's."""
    node = _keras.node_of(tensor)
    if node is None:
        return None
    operation = node.operation
    if _keras.is_functional(operation):
        index = [id(x) for x in node.outputs].index(id(tensor))
        return _activation(_keras.graph(operation).outputs[index])
    while isinstance(operation, keras.layers.Wrapper):
        operation = operation.layer
    if isinstance(operation, keras.layers.Softmax | _keras.Softmax):
        axis = operation.axis
        return "softmax" if axis in (-1, len(tensor.shape) - 1) else "other"
    if isinstance(operation, _keras.Sigmoid):
        return "sigmoid"
    function = getattr(operation, "activation", None)
    if function in _ACTIVATIONS:
        return _ACTIVATIONS[function]
    linear = function in (None, keras.activations.linear)
    if linear and isinstance(
        operation, (*_TRANSPARENT, keras.layers.Activation, keras.layers.Reshape)
    ):
        (source,) = node.input_tensors
        found, same = _activation(source), source.shape[-1] == tensor.shape[-1]
        # Of a softmax the classes must stay on the last axis
        return found if same or found != "softmax" else "other"
    package = type(operation).__module__.split(".")[0]
    return "other" if package in ("keras", "keras_variance") else None
