"""What `replace` does with each layer that has weights, and why: its plan.

An operation of the model's graph is turned as a whole: a stock layer that has a
variance class into that, any other layer, with all that is inside of it, into a
`VarianceWrapper`. A `Part` is an innermost layer: the operation, or one inside.
"""

import collections
import dataclasses

import keras

from keras_variance import checks
from keras_variance._keras import clone, is_functional, made_trainable, sublayers
from keras_variance.layers import VarianceWrapper, layer_paths, variance_layers
from keras_variance.layers.paths import choose
from keras_variance.layers.stock import VARIANCE_LAYERS
from keras_variance.layers.weights import RandomWeights
from keras_variance.layers.wrapper import is_kernel
from keras_variance.transforms.walk import functional, operations

NO_KERNEL = "no kernel"
NO_CLASS = "no variance class"
NOT_CHOSEN = "not chosen"
ALREADY = "draws its weights already"


@dataclasses.dataclass(eq=False)
class Part:
    """A layer with weights of its own.

    Attributes:
        path: In the model.
        layer: Of Keras.
        operation: The one that it is, or is inside of; None if the model calls none.
        weights, kernels: Its own variables, and those that can be random.
        result: The class that its operation becomes; None if it is left.
        reason: Why it is left; empty otherwise.
    """

    path: str
    layer: keras.Layer
    operation: keras.Layer | None
    weights: list
    kernels: list
    result: type | None = None
    reason: str = ""

    @property
    def random(self):
        """Those of the weights that are random in the result."""
        if self.result:
            return self.kernels
        every = (self.layer, self.operation)
        already = [x for each in every for x in getattr(each, "random_weights", ())]
        known = {id(each.variable) for each in already}
        return [x for x in self.weights if id(x) in known]

    @property
    def is_missed(self):
        """Whether it is left though it was chosen, and has a kernel."""
        return self.reason not in ("", NO_KERNEL, NOT_CHOSEN, ALREADY)


def plan(model, layers=None) -> list[Part]:
    """The parts of a model, in the order in which its layers were added.

    Raises:
        ValueError: If the model cannot be inspected or nothing is turned, if `layers`
            are not the model's, or if one of them that is given itself, by path or by
            name is left.
    """
    parts = _parts(model)
    named, wanted = _chosen(model, layers, parts)
    owners = collections.defaultdict(list)  # the operations that have a weight
    for operation in _called(model):
        for weight in operation.weights:
            owners[id(weight)].append(operation)
    for part in parts:
        within = {p for p in wanted if _is_within(part.path, p)}
        explicit = any(not is_functional(wanted[p]) for p in within)
        part.reason = _obstacle(part, owners, within, explicit)
        if not part.reason:
            stock = type(part.operation)
            part.result = VARIANCE_LAYERS.get(stock, VarianceWrapper)
    _check(parts, layers, named)
    return parts


def _parts(model):
    called = {id(layer) for layer in _called(model)}
    paths = layer_paths(model)
    own = {path: _own_weights(layer) for path, layer in paths.items()}
    tops = {path: x for path, x in paths.items() if id(x) in called}
    return [
        Part(
            path=path,
            layer=paths[path],
            operation=next((tops[p] for p in tops if _is_within(path, p)), None),
            weights=weights,
            kernels=_kernels(paths[path]),
        )
        for path, weights in own.items()
        if weights
    ]


def _called(model):
    """The layers that are called in a model and in those nested in it, each once."""
    layers = [x for x in operations(model) if isinstance(x, keras.Layer)]
    return list({id(layer): layer for layer in layers}.values())


def _own_weights(layer):
    """The weights of a layer that no layer inside of it has."""
    inside = {id(x) for each in sublayers(layer) for x in each.weights}
    return [x for x in layer.weights if id(x) not in inside]


def _kernels(layer):
    every = [x for x in made_trainable(layer) if is_kernel(x)]
    return [x for x in every if not x.name.startswith("lora_")]


def _is_within(path, other):
    """Whether a layer is another, or inside of it, by their paths."""
    return not other or path == other or path.startswith(f"{other}/")


def _chosen(model, layers, parts):
    """What the argument `layers` chooses: paths to layers.

    Returns:
        Those that it names one by one, and all.
    """
    paths = layer_paths(model)
    if layers is None:
        return {}, {"": model}
    candidates = {
        path: layer
        for path, layer in paths.items()
        if path and any(_is_within(part.path, path) for part in parts)
    }
    if isinstance(layers, str) and layers == "last":
        chosen = _last(model, parts)
    elif isinstance(layers, type) or _are_classes(layers):
        return {}, {p: x for p, x in candidates.items() if isinstance(x, layers)}
    elif callable(layers) and not isinstance(layers, keras.Layer):
        return {}, {p: x for p, x in candidates.items() if layers(x)}
    else:
        chosen = choose(layers, candidates)
    known = set(map(id, chosen))
    named = {path: layer for path, layer in paths.items() if id(layer) in known}
    return named, named


def _are_classes(layers):
    several = isinstance(layers, tuple) and layers
    return several and all(isinstance(each, type) for each in layers)


def _last(model, parts):
    """The last operation with a kernel, in a list."""
    graph = functional(model)
    expected = "layers or paths, where a model has several outputs: which is last?"
    checks.require(len(graph.outputs) == 1, "layers", expected, "last")
    linear = {id(x.operation) for x in parts if x.kernels or _is_quantized(x.layer)}
    return [x for x in operations(graph) if id(x) in linear][-1:]


def _is_quantized(layer):
    return getattr(layer, "quantization_mode", None) is not None


def _obstacle(part, owners, within, explicit):
    """Why a part is left; empty if it is turned."""
    operation = part.operation
    if isinstance(part.layer, RandomWeights) or isinstance(operation, RandomWeights):
        return ALREADY
    if _is_quantized(part.layer):
        return "quantized" if within else NOT_CHOSEN
    if not part.kernels:
        return NO_KERNEL
    if not within:
        return NOT_CHOSEN
    if operation is None:
        return "not called in the model's graph"
    sharing = [
        each
        for weight in operation.weights
        for each in owners[id(weight)]
        if each is not operation
    ]
    if sharing:
        return f"'{sharing[0].name}' has its weights too"
    if type(operation) in VARIANCE_LAYERS:
        return _unfit(operation)
    return _unwrappable(operation) if explicit else _unknown(part)


def _unfit(stock):
    """Why the variance layer cannot compute what a stock layer does, or empty."""
    try:
        layer = new_layer(stock)
    except Exception:  # it is the layer's own code
        return "its `get_config` does not make another one"
    shape = (stock.get_build_config() or {}).get("input_shape")
    try:
        if shape is not None:
            layer.check_input_shape(shape)
    except ValueError as error:
        return str(error).splitlines()[0]
    return ""


def _unwrappable(operation):
    """Why a layer cannot be wrapped; empty if it can."""
    path = f"'{operation.name}'"
    inside = layer_paths(operation).values()
    if variance_layers(operation):
        return f"inside {path}, which has variance layers"
    if any(map(_is_quantized, inside)):
        return f"inside {path}, which has quantized layers"
    if any(getattr(x, "lora_enabled", False) for x in inside):
        return f"inside {path}, which has LoRA weights"
    try:
        clone(operation)
    except Exception:  # it is the layer's own code
        return f"inside {path}, which its `get_config` cannot copy"
    return ""


def _unknown(part):
    if part.layer is part.operation:
        return NO_CLASS
    kind = type(part.operation).__name__
    return f"inside '{part.operation.name}' ({kind}), which has {NO_CLASS}"


def _check(parts, layers, named):
    """Raise ValueError if nothing is turned, or a layer that was named is left."""
    turned = [part.path for part in parts if part.result]
    idle = [p for p in named if not any(_is_within(path, p) for path in turned)]
    if turned and not idle:
        return
    left = [x for x in parts if not idle or any(_is_within(x.path, p) for p in idle)]
    expected = f"layers that can be turned into variance layers: {reasons(left)}"
    checks.require(False, "layers", expected, layers)


def reasons(parts):
    """Why layers are left, in a line."""
    left = "; ".join(f"'{part.path}' ({part.reason})" for part in parts)
    return left or "this model has no layer with weights"


def new_layer(stock, **kwargs):
    """The variance layer of a stock layer, with its arguments and others; not built."""
    config = {**stock.get_config(), "dtype": stock.dtype_policy}
    for name in ("lora_rank", "lora_alpha"):
        config.pop(name, None)
    return VARIANCE_LAYERS[type(stock)](**config, **kwargs)
