"""What `shrink` does with each kind of layer: steps of a plan.

A step finds which channels of its results are constant, forwards through the model,
then which channels of its sources the kept ones need, backwards, and makes the layer
that is left.
"""

import numbers

import keras
import numpy as np
from keras import ops, tree

from keras_variance import _keras
from keras_variance.layers import VARIANCE_LAYERS, VarianceLayer, effective_kernel

layers = keras.layers


class Signal:
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


class Whole:
    """A call that is left as it is.

    Attributes:
        operation: A layer, or an operator.
        arguments: Its args and kwargs, with signals in the place of tensors.
        sources, results: The signals that go in and come out.
        reason: Why it is left whole; empty for other steps.
    """

    def __init__(self, operation, arguments, results, reason=""):
        self.operation = operation
        self.arguments = arguments
        self.sources = _signals(arguments)
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


class Channelwise(Whole):
    """Each channel of the result is a function of that channel of the sources."""

    def find_constants(self):
        (result,) = self.results
        known = ~np.isnan([x.constant for x in self.sources]).any(axis=0)
        shapes = [x.tensor.shape[1:] for x in self.sources]
        if not known.any() or any(None in shape for shape in shapes):
            return
        args, kwargs = tree.map_structure(_one_row, self.arguments)
        values = ops.convert_to_numpy(self.operation(*args, **kwargs))
        values = values.reshape(-1, result.channels)
        known &= (values == values[0]).all(axis=0)
        result.constant[known] = values[0, known]

    def demand(self):
        keep = np.any([x.keep for x in (*self.sources, *self.results)], axis=0)
        for signal in (*self.sources, *self.results):
            signal.keep[:] = keep


class BatchNorm(Channelwise):
    def make(self):
        layer, (result,) = self.operation, self.results
        if result.keep.all():
            return layer
        smaller = type(layer).from_config(layer.get_config())
        smaller.build((*result.tensor.shape[:-1], int(result.keep.sum())))
        for new, old in zip(smaller.weights, layer.weights, strict=True):
            new.assign(ops.convert_to_numpy(old)[result.keep])
        return smaller


class Flatten(Whole):
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


class Concatenate(Whole):
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


class Linear(Whole):
    """A dense layer or a convolution: it mixes channels."""

    def __init__(self, operation, arguments, results):
        super().__init__(operation, arguments, results)
        kind = VARIANCE_LAYERS.get(type(operation), type(operation))
        self.input_axis, (self.unit_axis,) = kind.input_axis, kind.unit_axes
        (self.source,), (self.result,) = self.sources, results
        if isinstance(operation, VarianceLayer):
            scale = self._matrix(operation.kernel_scale)
            mean = operation.kernel_mean
            mean = np.zeros_like(scale) if mean is None else self._matrix(mean)
        else:
            mean = self._matrix(effective_kernel(operation))
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
        for name in ("lora_rank", "lora_alpha"):
            config.pop(name, None)
        config["use_bias"] = layer.bias is not None or bool(offset.any())
        smaller = type(layer).from_config(config)
        smaller.build((*self.source.tensor.shape[:-1], int(inputs.sum())))
        if layer.bias is not None:
            offset = offset + ops.convert_to_numpy(layer.bias)[units]
        if smaller.bias is not None:
            smaller.bias.assign(offset)
        smaller.kernel.assign(self._part(effective_kernel(layer)))
        for name in ("phi", "mask", "kl_weight"):
            if getattr(smaller, name, None) is not None:
                getattr(smaller, name).assign(self._part(getattr(layer, name)))
        for name, variable in getattr(smaller, "prior_variables", {}).items():
            variable.assign(self._part(layer.prior_variables[name]))
        return smaller

    def _part(self, weight):
        """A weight that broadcasts to the kernel, for the channels that are kept."""
        weight = ops.convert_to_numpy(weight)
        for axis, keep in (
            (self.input_axis, self.source.keep),
            (self.unit_axis, self.result.keep),
        ):
            if weight.ndim and weight.shape[axis] == len(keep):
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
    _keras.Add,
    _keras.Subtract,
    _keras.Multiply,
    _keras.Maximum,
    _keras.Minimum,
    _keras.Relu,
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


def make_step(operation, arguments, results, shared):
    """The step of a call."""
    kind = type(operation)
    sources = _signals(arguments)
    alike = len({x.channels for x in (*sources, *results)}) == 1
    if getattr(operation, "data_format", None) == "channels_first":
        reason = "channels first"
    elif shared and getattr(operation, "weights", ()):
        reason = "called more than once"
    elif not all(map(_is_plain, tree.flatten(arguments))):
        reason = "called with further arguments"
    elif kind in LINEAR and getattr(operation, "groups", 1) == 1:
        return Linear(operation, arguments, results)
    elif kind is layers.BatchNormalization and _is_last(operation.axis, results):
        return BatchNorm(operation, arguments, results)
    elif kind is layers.Flatten and None not in sources[0].tensor.shape[1:]:
        return Flatten(operation, arguments, results)
    elif kind is layers.Concatenate and _is_last(operation.axis, results):
        return Concatenate(operation, arguments, results)
    elif kind in CHANNELWISE and alike and _elementwise(operation):
        return Channelwise(operation, arguments, results)
    else:
        reason = "not known to keep channels apart"
    return Whole(operation, arguments, results, reason)


def _signals(arguments):
    return [x for x in tree.flatten(arguments) if isinstance(x, Signal)]


def _one_row(value):
    """A signal's constants as a batch of one row, other arguments as they are."""
    if not isinstance(value, Signal):
        return value
    shape = (1, *value.tensor.shape[1:])
    return ops.convert_to_tensor(
        np.broadcast_to(np.nan_to_num(value.constant), shape), value.tensor.dtype
    )


def _is_plain(value):
    """Whether an argument is the same for all channels and in all modes."""
    number = isinstance(value, numbers.Number) and not isinstance(value, bool)
    return isinstance(value, Signal) or value is None or number


def _is_last(axis, results):
    return axis in (-1, len(results[0].tensor.shape) - 1)


def _elementwise(operation):
    activation = getattr(operation, "activation", None)
    return activation is None or activation in ELEMENTWISE
