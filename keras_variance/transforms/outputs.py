"""What each output of a model means: by the compiled loss, or the last activation."""

import keras
from keras import tree

from keras_variance import _keras, checks, likelihoods
from keras_variance.layers.weights import RandomWeights
from keras_variance.likelihoods import Bernoulli, Categorical, Classification
from keras_variance.losses import NegativeLogLikelihood
from keras_variance.transforms.walk import Interpreter


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
        if x is not None:
            x.check_outputs(y.shape)
    return tree.pack_sequence_as(graph.output, resolved)


def output_names(model):
    """A name for each output of a Functional model: its key, or that of the layer."""
    if isinstance(model.output, dict):
        paths = (path for path, _ in tree.flatten_with_path(model.output))
        return [".".join(map(str, path)) for path in paths]
    names = model.output_names
    if len({*names}) < len(names):  # a layer that is called twice
        names = [f"{name}_{k}" for k, name in enumerate(names)]
    return names


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
    if not isinstance(likelihood, str) or likelihood not in likelihoods.MEMBERS:
        return None if likelihood is None else likelihoods.get(likelihood)
    kind = likelihoods.MEMBERS[likelihood]
    for known in (said, by_activation):
        if type(known) is kind:
            return known
    if not issubclass(kind, Classification):
        return kind()
    if activation is None:
        raise ValueError(
            f"Argument `likelihood` must be an object here, such as "
            f"`keras_variance.likelihoods.{kind.__name__}(from_logits=True)`: model "
            f"'{model.name}' does not tell whether its outputs are logits. "
            f"Received: likelihood={likelihood!r}"
        )
    return kind(from_logits=True)


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
    """What a loss says of an output: a likelihood, None for numbers whose distribution
    it does not know, "unknown"."""
    if isinstance(loss, NegativeLogLikelihood):
        return loss.likelihood
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
    where it cannot be seen: in a layer not of Keras that has no random weights."""
    node = _keras.node_of(tensor)
    if node is None:
        return None
    operation = node.operation
    index = [id(x) for x in node.outputs].index(id(tensor))
    if _keras.is_functional(operation):
        return _activation(_keras.graph(operation).outputs[index])
    if isinstance(operation, Interpreter):
        return _of_transform(operation, index, len(node.outputs))
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
    of_keras = type(operation).__module__.split(".")[0] == "keras"
    return "other" if of_keras or isinstance(operation, RandomWeights) else None


def _of_transform(layer, index, count):
    """As `_activation`, of an output of a transform's layer: predictions by the
    layer's likelihood, if it has one, else what the source returns."""
    if not _keras.is_functional(layer.model):
        return None
    sources = _keras.graph(layer.model).outputs
    if len(sources) != count:
        return None  # statistics
    likelihood = for_outputs(getattr(layer, "likelihood", None), sources)[index]
    if isinstance(likelihood, Classification):
        return "softmax" if isinstance(likelihood, Categorical) else "sigmoid"
    return _activation(sources[index])
