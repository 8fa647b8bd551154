"""`shrink`: a smaller model with the same function."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_variance.layers import VARIANCE_LAYERS, VarianceLayer
from keras_variance.transforms.rewrite import functional, new_inputs, rewrite, walk

layers = keras.layers


def shrink(model):
    """A smaller model with the same function: what is constant or unread is left out.

    A unit whose weights are all 0 has a constant output, which is folded into the
    biases of what reads it. What nothing reads is removed from the layers before:
    units of dense layers and filters of convolutions, through BatchNorm,
    activations, pooling, flattening, concatenation and sums. Works on stock and on
    variance layers. `shrink_report` tells what is left whole, and why.

    Args:
        model: A built Sequential or Functional model.

    Returns:
        A Functional model. Layers that got smaller are copies, others are shared.

    Raises:
        ValueError: If the model can't be seen into, or is not built.

    Example:

    >>> import keras_variance as kv
    >>> model = keras.Sequential(
    ...     [keras.Input((20,)), kv.VarianceDense(50), keras.layers.Dense(3)]
    ... )
    >>> report = kv.prune(model, 0.9, granularity="unit")
    >>> shrink(model).layers[1].units
    5
    """
    steps = iter(_plan(model))

    def call(operation, *args, **kwargs):
        return next(steps).make()(*args, **kwargs)

    return rewrite(model, call, enter=_always)


class ShrunkLayer(NamedTuple):
    """What `shrink` makes of a layer.

    Attributes:
        name: The layer's.
        inputs, units: Channels of its input and its output.
        inputs_left, units_left: Those of the smaller layer.
        left_whole: Why it keeps all of them; empty if it does not have to.
    """

    name: str
    inputs: int
    units: int
    inputs_left: int
    units_left: int
    left_whole: str = ""


class ShrinkReport(NamedTuple):
    """What `shrink` makes of a model's layers; prints as a table."""

    layers: tuple[ShrunkLayer, ...]

    def __str__(self):
        width = max([len(row.name) for row in self.layers], default=5)
        lines = [f"{'layer':<{width}}{'inputs':>16}{'units':>16}"]
        for row in self.layers:
            inputs = f"{row.inputs} → {row.inputs_left}"
            units = f"{row.units} → {row.units_left}"
            lines.append(
                f"{row.name:<{width}}{inputs:>16}{units:>16}  {row.left_whole}"
            )
        return "\n".join(line.rstrip() for line in lines)


def shrink_report(model) -> ShrinkReport:
    """What `shrink` would make of a model: its linear layers, and what is left whole.

    Args, Raises: as `shrink`.
    """
    rows = []
    for step in _plan(model):
        if step.reason or isinstance(step, _Linear):
            source, result = step.sources[0], step.results[0]
            sizes = [x.channels for x in (source, result)]
            left = [int(x.keep.sum()) for x in (source, result)]
            rows.append(ShrunkLayer(step.operation.name, *sizes, *left, step.reason))
    return ShrinkReport(tuple(rows))


class _Signal:
    """A tensor of the model, channel by channel (its last axis).

    Attributes:
        tensor: Symbolic.
        constant: Array, (channels,): the value of a channel that has one, the same
            for all rows and positions, else NaN.
        keep: Boolean array, (channels,): whether the smaller model has it.
    """

    def __init__(self, tensor):
        self.tensor = tensor
        self.channels = tensor.shape[-1] or 1 if len(tensor.shape) > 1 else 1
        self.constant = np.full(self.channels, np.nan)
        self.keep = np.zeros(self.channels, bool)


def _always(model):
    return True


def _plan(model):
    """What the calls of the model's operations become, in their order: a list."""
    source = functional(model)
    inputs = tree.map_structure(_Signal, new_inputs(source))
    signals, steps = tree.flatten(inputs), []

    def call(operation, *args, **kwargs):
        def tensor(value):
            return value.tensor if isinstance(value, _Signal) else value

        tensors, options = tree.map_structure(tensor, (args, kwargs))
        outputs = tree.map_structure(_Signal, operation(*tensors, **options))
        sources = [x for x in tree.flatten((args, kwargs)) if isinstance(x, _Signal)]
        steps.append((operation, sources, tree.flatten(outputs)))
        signals.extend(tree.flatten(outputs))
        return outputs

    outputs = tree.flatten(walk(source, inputs, call, _always))
    calls = [id(operation) for operation, _, _ in steps]
    steps = [
        _kind(operation, sources, results, shared=calls.count(id(operation)) > 1)
        for operation, sources, results in steps
    ]
    for step in steps:
        step.find_constants()
    for signal in (*tree.flatten(inputs), *outputs):
        signal.keep[:] = True
    _find_kept(steps, signals)
    return steps


def _find_kept(steps, signals):
    """Grow `keep` until every step has what it demands."""
    before = -1
    while before != (now := sum(int(signal.keep.sum()) for signal in signals)):
        before = now
        for step in reversed(steps):
            step.demand()
    empty = [signal for signal in signals if not signal.keep.any()]
    for signal in empty:
        signal.keep[0] = True  # a tensor has a channel at least
    if empty:
        _find_kept(steps, signals)


class _Whole:
    """A call that is left as it is."""

    def __init__(self, operation, sources, results, reason=""):
        self.operation = operation
        self.sources = sources
        self.results = results
        self.reason = reason

    def find_constants(self):
        """Set `constant` of the results."""

    def demand(self):
        """Set `keep` of the sources where the results need it, and of the results."""
        for signal in (*self.sources, *self.results):
            signal.keep[:] = True

    def make(self):
        """The operation of the smaller model."""
        return self.operation


class _Channelwise(_Whole):
    """Each channel of the result is a function of that channel of the sources."""

    def find_constants(self):
        (result,) = self.results
        known = ~np.isnan([x.constant for x in self.sources]).any(axis=0)
        shapes = [(1, *x.tensor.shape[1:]) for x in self.sources]
        if not known.any() or any(None in shape for shape in shapes):
            return
        inputs = [
            np.broadcast_to(np.nan_to_num(x.constant), shape).astype(x.tensor.dtype)
            for x, shape in zip(self.sources, shapes, strict=True)
        ]
        values = self.operation(inputs if len(inputs) > 1 else inputs[0])
        values = ops.convert_to_numpy(values)
        values = values.reshape(-1, result.channels)
        known &= (values == values[0]).all(axis=0)
        result.constant[known] = values[0, known]

    def demand(self):
        keep = np.any([x.keep for x in (*self.sources, *self.results)], axis=0)
        for signal in (*self.sources, *self.results):
            signal.keep[:] = keep


class _BatchNorm(_Channelwise):
    def make(self):
        layer, (result,) = self.operation, self.results
        if result.keep.all():
            return layer
        smaller = type(layer).from_config(layer.get_config())
        smaller.build((*result.tensor.shape[:-1], int(result.keep.sum())))
        for new, old in zip(smaller.weights, layer.weights, strict=True):
            new.assign(np.asarray(old)[result.keep])
        return smaller


class _Flatten(_Whole):
    def find_constants(self):
        (source,), (result,) = self.sources, self.results
        result.constant[:] = np.tile(
            source.constant, result.channels // source.channels
        )

    def demand(self):
        (source,), (result,) = self.sources, self.results
        keep = result.keep.reshape(-1, source.channels)
        source.keep |= keep.any(axis=0)
        keep[:] = source.keep


class _Concatenate(_Whole):
    def find_constants(self):
        (result,) = self.results
        result.constant[:] = np.concatenate([x.constant for x in self.sources])

    def demand(self):
        (result,) = self.results
        ends = np.cumsum([x.channels for x in self.sources])
        for source, keep in zip(
            self.sources, np.split(result.keep, ends[:-1]), strict=True
        ):
            source.keep |= keep
            keep[:] = source.keep


class _Linear(_Whole):
    """A dense layer or a convolution: it mixes channels."""

    def __init__(self, operation, sources, results):
        super().__init__(operation, sources, results)
        self.input_axis, self.unit_axis = -2, -1
        if isinstance(operation, layers.Conv2DTranspose):
            self.input_axis, self.unit_axis = -1, -2
        (self.source,), (self.result,) = sources, results
        if isinstance(operation, VarianceLayer):
            scale = self._matrix(operation.kernel_scale)
            mean = operation.kernel_mean
            mean = np.zeros_like(scale) if mean is None else self._matrix(mean)
        else:
            mean = self._matrix(operation.kernel)
            scale = np.zeros_like(mean)
        # (…, inputs, units) to (inputs, units)
        self.reads = ((mean != 0) | (scale != 0)).any(axis=0)
        self.random = (scale != 0).any(axis=0)
        self.gain = mean.sum(axis=0)

    def _matrix(self, kernel):
        kernel = np.moveaxis(
            ops.convert_to_numpy(kernel).astype("float64"),
            (self.input_axis, self.unit_axis),
            (-2, -1),
        )
        return kernel.reshape(-1, *kernel.shape[-2:])

    @property
    def _folds(self):
        """Inputs whose part in the outputs is a constant: (inputs, units)."""
        constant = self.source.constant[:, None]
        # Padding, and the edges of a transposed convolution, see another number
        # of inputs
        even = isinstance(self.operation, layers.Dense) or (
            not isinstance(self.operation, layers.Conv2DTranspose)
            and self.operation.padding == "valid"
        )
        return (
            ~self.reads | (constant == 0) | (~np.isnan(constant) & ~self.random & even)
        )

    def _offset(self, inputs):
        """What constant inputs add to the outputs: (units,)."""
        constant = np.where(inputs, np.nan_to_num(self.source.constant), 0)
        return constant @ self.gain

    def find_constants(self):
        layer = self.operation
        if not _elementwise(layer):
            return
        constant = self._folds.all(axis=0)
        if not constant.any():
            return
        values = self._offset(np.ones(self.source.channels, bool))
        if layer.bias is not None:
            values = values + ops.convert_to_numpy(layer.bias).astype("float64")
        if layer.activation is not None:
            values = ops.convert_to_numpy(layer.activation(values))
        self.result.constant[constant] = values[constant]

    def demand(self):
        if not _elementwise(self.operation):
            self.result.keep[:] = True
        self.source.keep |= ~self._folds[:, self.result.keep].all(axis=1)

    def make(self):
        layer, inputs, units = self.operation, self.source.keep, self.result.keep
        if inputs.all() and units.all():
            return layer
        offset = self._offset(~inputs)[units]
        config = layer.get_config()
        size = "units" if isinstance(layer, layers.Dense) else "filters"
        config[size] = int(units.sum())
        if config.get("pruned"):  # and something pruned is left
            config["pruned"] = not self._part(layer.mask).all()
        config["use_bias"] = layer.bias is not None or bool(offset.any())
        smaller = type(layer).from_config(config)
        smaller.build((*self.source.tensor.shape[:-1], int(inputs.sum())))
        if layer.bias is not None:
            offset = offset + ops.convert_to_numpy(layer.bias)[units]
        if smaller.bias is not None:
            smaller.bias.assign(offset)
        smaller.kernel.assign(self._part(layer.kernel))
        for name in ("phi", "mask"):
            if getattr(smaller, name, None) is not None:
                getattr(smaller, name).assign(self._part(getattr(layer, name)))
        if getattr(layer, "kl_weight", None) is not None:
            smaller.kl_weight.assign(layer.kl_weight)
        return smaller

    def _part(self, weight):
        """A weight that broadcasts to the kernel, for the channels that are kept."""
        weight = ops.convert_to_numpy(weight)
        for axis, keep in (
            (self.input_axis, self.source.keep),
            (self.unit_axis, self.result.keep),
        ):
            if weight.shape[axis] == len(keep):
                weight = np.compress(keep, weight, axis)
        return weight


CHANNELWISE = (
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.Identity,
    layers.Rescaling,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
)
LINEAR = (
    *(set(VARIANCE_LAYERS) - {layers.DepthwiseConv2D}),
    *(set(VARIANCE_LAYERS.values()) - {VARIANCE_LAYERS[layers.DepthwiseConv2D]}),
)
# In all others of Keras an entry of the output depends on that of the input alone
MIXING = ("glu", "log_softmax", "softmax", "sparsemax")
ELEMENTWISE = [
    function
    for name, function in vars(keras.activations).items()
    if callable(function) and name not in MIXING
]


def _kind(operation, sources, results, shared):
    """How `shrink` treats a call."""
    kind = type(operation)
    alike = len({x.channels for x in (*sources, *results)}) == 1
    if getattr(operation, "data_format", None) == "channels_first":
        reason = "channels first"
    elif shared and operation.weights:
        reason = "called more than once"
    elif kind in LINEAR and getattr(operation, "groups", 1) == 1:
        return _Linear(operation, sources, results)
    elif kind is layers.BatchNormalization and _is_last(operation.axis, results):
        return _BatchNorm(operation, sources, results)
    elif kind is layers.Flatten:
        return _Flatten(operation, sources, results)
    elif kind is layers.Concatenate and _is_last(operation.axis, results):
        return _Concatenate(operation, sources, results)
    elif kind in CHANNELWISE and alike and _elementwise(operation):
        return _Channelwise(operation, sources, results)
    else:
        reason = "not known to keep channels apart"
    return _Whole(operation, sources, results, reason)


def _is_last(axis, results):
    return axis in (-1, len(results[0].tensor.shape) - 1)


def _elementwise(operation):
    activation = getattr(operation, "activation", None)
    return activation is None or activation in ELEMENTWISE
