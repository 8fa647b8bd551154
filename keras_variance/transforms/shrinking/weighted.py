"""Steps of layers with a kernel."""

import keras
import numpy as np
from keras import ops

from keras_variance.distributions import noises, posteriors
from keras_variance.layers import VarianceLayer
from keras_variance.layers.einsum import subscripts
from keras_variance.layers.stock import VARIANCE_LAYERS, declared, effective_kernel
from keras_variance.transforms.shrinking.steps import (
    UNKNOWN,
    ShrinkStep,
    is_elementwise,
    shrink_rule,
)

layers = keras.layers
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)


class Weighted(ShrinkStep):
    """Base of the layers with a kernel.

    Attributes:
        mean, scale: Of the weights: arrays of double precision.
        even: Whether each position of the result sees the same number of inputs. With
            padding, and at the edges of a transposed convolution, it does not.
    """

    def __init__(self, operation, arguments, results):
        super().__init__(operation, arguments, results)
        (self.source,), (self.result,) = self.sources, results
        self.mean, self.scale = self._moments()
        self.even = getattr(operation, "padding", "valid") == "valid"
        self.even &= not isinstance(operation, TRANSPOSED)

    def _moments(self):
        layer = self.operation
        if not isinstance(layer, VarianceLayer):
            mean = _array(effective_kernel(layer))
            return mean, np.zeros_like(mean)
        scale = _array(layer.kernel_scale)
        mean = layer.kernel_mean
        scale = np.broadcast_to(scale, layer.kernel.shape)
        return np.zeros_like(scale) if mean is None else _array(mean), scale

    def _finish(self, values):
        """Outputs from what comes before bias and activation, (units,)."""
        layer = self.operation
        if getattr(layer, "bias", None) is not None:
            values = values + _array(layer.bias)
        if getattr(layer, "activation", None) is not None:
            values = ops.convert_to_numpy(layer.activation(values))
        return values

    def _smaller(self, offset, **changes):
        """The layer that is left: of another configuration, with parts of the weights,
        and something added to the bias."""
        layer = self.operation
        config = {**layer.get_config(), **changes}
        if config.get("pruned"):  # and something pruned is left
            config["pruned"] = not self.part("mask", self.weights()["mask"]).all()
        for name in ("lora_rank", "lora_alpha"):
            config.pop(name, None)
        smaller = type(layer).from_config(config)
        smaller.build((*self.source.tensor.shape[:-1], int(self.source.keep.sum())))
        if getattr(smaller, "bias", None) is not None:
            bias = 0 if layer.bias is None else _array(layer.bias)[self.result.keep]
            smaller.bias.assign(offset + bias)
        for name, weight in self.weights().items():
            if getattr(smaller, name) is not None:
                getattr(smaller, name).assign(self.part(name, weight))
        if getattr(layer, "kl_weight", None) is not None:
            smaller.kl_weight.assign(layer.kl_weight)
        for name, variable in getattr(smaller, "prior_variables", {}).items():
            variable.assign(self.part(name, layer.prior_variables[name]))
        return smaller

    def weights(self):
        """Those that `part` takes parts of, by attribute."""
        layer = self.operation
        if isinstance(layer, VarianceLayer):
            return {"kernel": layer.kernel, "phi": layer.phi, "mask": layer.mask}
        return {declared(layer, "kernel_name"): effective_kernel(layer)}

    def part(self, name, weight):
        """What is left of a weight that broadcasts to the kernel."""
        weight = ops.convert_to_numpy(weight)
        for axis, keep in self.axes():
            if weight.ndim and weight.shape[axis] == len(keep):
                weight = np.compress(keep, weight, axis)
        return weight

    def axes(self):
        """Axes of the kernel, each with the indices that are kept."""
        raise NotImplementedError


@shrink_rule(
    *(
        kind
        for pair in VARIANCE_LAYERS.items()
        for kind in pair
        if not issubclass(kind, (*DEPTHWISE, *SEPARABLE, layers.Embedding))
    )
)
class Linear(Weighted):
    """A layer that mixes channels: a dense one or a convolution.

    What constant inputs add to the outputs is added to the bias, where it is the same
    for all positions and draws. Else these inputs, multiples cᵢ / c of one of them, are
    merged into that one, whose weight becomes Σ wᵢ cᵢ / c: with Gaussian noise of mean
    Σ E[wᵢ] cᵢ / c and variance Σ Var[wᵢ] (cᵢ / c)².
    """

    @classmethod
    def obstacle(cls, operation, sources, results):
        if isinstance(operation, layers.EinsumDense):
            return _einsum_obstacle(operation)
        return UNKNOWN if getattr(operation, "groups", 1) != 1 else ""

    def __init__(self, operation, arguments, results):
        super().__init__(operation, arguments, results)
        mean, scale = self._matrix(self.mean), self._matrix(self.scale)
        self.reads = ((mean != 0) | (scale != 0)).any(axis=0)
        self.random = (scale != 0).any(axis=0)
        self.gain = mean.sum(axis=0)

    def _matrix(self, kernel):
        """(…, inputs, units)."""
        (axis, _), (unit_axis, _) = self.axes()
        kernel = np.moveaxis(kernel, (axis, unit_axis), (-2, -1))
        return kernel.reshape(-1, *kernel.shape[-2:])

    def axes(self):
        (unit_axis,) = declared(self.operation, "unit_axes")
        return (
            (declared(self.operation, "input_axis"), self.source.keep),
            (unit_axis, self.result.keep),
        )

    @property
    def _folds(self):
        """Inputs whose part in the outputs is a constant: (inputs, units)."""
        constant = self.source.constant[:, None]
        known = ~np.isnan(constant) & ~self.random & self.even
        return ~self.reads | (constant == 0) | known

    @property
    def _merges(self):
        """Inputs that can be merged into one of them: (inputs,)."""
        layer, constant = self.operation, self.source.constant
        if isinstance(layer, VarianceLayer) and not (
            isinstance(layer.noise, noises.Gaussian)
            and isinstance(layer.posterior, posteriors.ZeroMean | posteriors.Additive)
            # A prior with a number for each weight knows nothing of merged ones
            and not any(x.shape for x in layer.prior_variables.values())
        ):
            return np.zeros(len(constant), bool)
        return ~np.isnan(constant) & (constant != 0)

    def _largest(self, merges):
        """The input into which the others are merged."""
        return np.abs(np.where(merges, self.source.constant, 0)).argmax()

    def _needed(self, units):
        """Inputs that some of the outputs need: (inputs,)."""
        return ~self._folds[:, units].all(axis=1)

    def _offset(self, inputs):
        """What constant inputs add to the outputs: (units,)."""
        constant = np.where(inputs, np.nan_to_num(self.source.constant), 0)
        return constant @ self.gain

    def find_constants(self):
        constant = self._folds.all(axis=0)
        if constant.any() and is_elementwise(self.operation):
            values = self._offset(np.ones(self.source.channels, bool))
            self.result.constant[constant] = self._finish(values)[constant]

    def demand(self):
        if not is_elementwise(self.operation):
            self.result.keep[:] = True
        needed, merges = self._needed(self.result.keep), self._merges
        if (needed & merges).any():
            needed &= ~merges
            needed[self._largest(merges)] = True
        self.source.keep |= needed

    def make(self):
        layer, inputs, units = self.operation, self.source.keep, self.result.keep
        if inputs.all() and units.all():
            return layer
        offset = self._offset(~inputs & ~self._needed(units))[units]
        biased = layer.bias is not None or bool(offset.any())
        return self._smaller(offset, **self.sizes(int(units.sum()), biased))

    def weights(self):
        found, merges = super().weights(), self._merges
        merged = ~self.source.keep & self._needed(self.result.keep)
        if not merged.any():
            return found
        one, constant = self._largest(merges), self.source.constant
        factors = np.where(merged, constant / constant[one], 0)
        factors[one] = 1
        axis = self.axes()[0][0]

        def row(weights, factors):
            return np.tensordot(factors, weights, (0, axis))

        mean = row(self.mean, factors)
        variance = row(self.scale**2, factors**2)
        name, *_ = found
        rows = {name: mean}
        if isinstance(self.operation, VarianceLayer):
            rows["mask"] = (mean != 0) | (variance != 0)
            if isinstance(self.operation.posterior, posteriors.ZeroMean):
                rows["kernel"] = np.sqrt(variance)
            else:
                floor = self.operation.posterior.pruned_phi
                log = np.log(np.where(variance == 0, 1, variance))
                rows["phi"] = np.where(variance == 0, floor, log)
        for name, weight in rows.items():
            if found.get(name) is not None:
                found[name] = np.array(ops.convert_to_numpy(found[name]))
                np.moveaxis(found[name], axis, 0)[one] = weight
        return found

    def sizes(self, units, biased):
        """What changes in the layer's configuration."""
        layer = self.operation
        if isinstance(layer, layers.EinsumDense):
            shape = (*layer.partial_output_shape[:-1], units)
            return {
                "output_shape": shape,
                "bias_axes": layer.equation[-1] if biased else None,
            }
        size = "units" if isinstance(layer, layers.Dense) else "filters"
        return {size: units, "use_bias": biased}


def _einsum_obstacle(layer):
    """Why an equation does not just mix channels: the last axis, of the inputs and the
    kernel, into another one, of the outputs and the kernel."""
    inputs, kernel, outputs = subscripts(layer)
    unit_axes, unit = declared(layer, "unit_axes"), outputs[-1]
    mixes = (
        declared(layer, "input_axis") is not None
        and [kernel[axis] for axis in unit_axes] == [unit]
        and unit not in inputs
        and set(inputs) <= {*kernel, *outputs}  # none is summed without a weight
        and layer.bias_axes in (None, unit)
    )
    return "" if mixes else "an equation with several axes of units"


@shrink_rule(*SEPARABLE)
class Separable(Linear):
    """A depthwise convolution and a pointwise one: a kernel that is the product."""

    def _moments(self):
        depthwise, pointwise = map(_array, self.weights().values())
        pointwise = pointwise.reshape(*depthwise.shape[-2:], -1)
        mean = np.einsum("...cm,cmf->...cf", depthwise, pointwise)
        return mean, np.zeros_like(mean)

    def axes(self):
        return (-2, self.source.keep), (-1, self.result.keep)

    @property
    def _merges(self):
        return np.zeros(self.source.channels, bool)

    def weights(self):
        names = ("depthwise_kernel", "pointwise_kernel")
        return {name: getattr(self.operation, name) for name in names}

    def part(self, name, weight):
        weight, inputs = ops.convert_to_numpy(weight), self.source.keep
        if name == "depthwise_kernel":
            return np.compress(inputs, weight, -2)
        weight = np.compress(self.result.keep, weight, -1)
        return np.compress(inputs.repeat(self.operation.depth_multiplier), weight, -2)


@shrink_rule(*DEPTHWISE, *(VARIANCE_LAYERS[kind] for kind in DEPTHWISE))
class Depthwise(Weighted):
    """A depthwise convolution: channels are apart, a few of the result for each."""

    def axes(self):
        return ((-2, self.source.keep),)

    def find_constants(self):
        source, shape = self.source, self.mean.shape[-2:]
        mean, scale = (x.reshape(-1, *shape) for x in (self.mean, self.scale))
        constant = source.constant[:, None]
        random = (scale != 0).any(axis=0)
        unread = ~random & (mean == 0).all(axis=0)
        known = ~np.isnan(constant) & ~random & self.even
        known = (unread | (constant == 0) | known).ravel()
        if known.any() and is_elementwise(self.operation):
            values = (np.nan_to_num(constant) * mean.sum(axis=0)).ravel()
            self.result.constant[known] = self._finish(values)[known]

    def demand(self):
        if not is_elementwise(self.operation):
            self.result.keep[:] = True
        keep = self.result.keep.reshape(self.source.channels, -1)
        self.source.keep |= keep.any(axis=1)
        keep[:] = self.source.keep[:, None]

    def make(self):
        return self.operation if self.source.keep.all() else self._smaller(0)


@shrink_rule(layers.Embedding, VARIANCE_LAYERS[layers.Embedding])
class Lookup(Weighted):
    """An embedding: a channel is a column of the table."""

    def axes(self):
        return ((-1, self.result.keep),)

    def find_constants(self):
        zero = ((self.mean == 0) & (self.scale == 0)).all(axis=0)
        self.result.constant[zero] = 0

    def demand(self):
        self.source.keep[:] = True

    def make(self):
        if self.result.keep.all():
            return self.operation
        return self._smaller(0, output_dim=int(self.result.keep.sum()))


def _array(weight):
    return ops.convert_to_numpy(weight).astype("float64")
