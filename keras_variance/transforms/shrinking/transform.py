"""`shrink`: a smaller model with the same function."""

from collections import Counter
from typing import NamedTuple

import keras
from keras import tree

from keras_variance.transforms.rebuild import rebuild
from keras_variance.transforms.shrinking import channelwise  # noqa: F401 (rules)
from keras_variance.transforms.shrinking.steps import Signal, make_step
from keras_variance.transforms.shrinking.weighted import Weighted
from keras_variance.transforms.walk import functional, walk


def shrink(model: keras.Model) -> keras.Model:
    """A smaller model with the same function: what is constant or unread is left out.

    A unit whose weights are all 0 has a constant output, which is folded into the
    biases of what reads it; where that is not possible, as with random weights, such
    units are merged into one. What nothing reads is removed from the layers before:
    units of dense layers, filters of convolutions and columns of embeddings, through
    BatchNorm, activations, pooling, flattening, concatenation and sums. Works on stock
    and on variance layers; own layers have a `shrink_rule`. `shrink_report` tells what
    is left whole, and why.

    Args:
        model: A built Sequential or Functional model.

    Returns:
        A model with the same nesting and names. Layers that got smaller are copies,
        others are shared.

    Raises:
        ValueError: If the model cannot be inspected, is not built, or has a quantized
            layer.

    Example:

    >>> import keras
    >>> import keras_variance as kv
    >>> model = keras.Sequential(
    ...     [keras.Input((20,)), kv.VarianceDense(50), keras.layers.Dense(3)]
    ... )
    >>> report = kv.prune(model, 0.9, granularity="unit")
    >>> shrink(model).layers[0].units
    5
    """
    steps = {id(step.operation): step for step in _plan(model)}
    return rebuild(model, lambda layer: steps[id(layer)].make())


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


def shrink_report(model: keras.Model) -> ShrinkReport:
    """What `shrink` would make of a model: its linear layers, and what is left whole.

    Args, Raises: as `shrink`.
    """
    rows = []
    for step in _plan(model):
        if step.reason or isinstance(step, Weighted):
            source, result = step.sources[0], step.results[0]
            sizes = [x.channels for x in (source, result)]
            left = [int(x.keep.sum()) for x in (source, result)]
            rows.append(ShrunkLayer(step.operation.name, *sizes, *left, step.reason))
    return ShrinkReport(tuple(rows))


def _plan(model):
    """What the calls of the model's operations become, in their order: a list."""
    source = functional(model)
    inputs = tree.map_structure(Signal, source.input)
    signals, calls = tree.flatten(inputs), []

    def call(node, args, kwargs):
        # Without what a nested model was called with, as `training`
        kwargs = {k: v for k, v in kwargs.items() if k in node.arguments.kwargs}
        outputs = [Signal(x) for x in node.outputs]
        calls.append((node.operation, (args, kwargs), outputs))
        signals.extend(outputs)
        return outputs

    outputs = tree.flatten(walk(source, inputs, call))
    times = Counter(id(operation) for operation, _, _ in calls)
    steps = [make_step(*each, shared=times[id(each[0])] > 1) for each in calls]
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
