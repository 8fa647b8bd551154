"""`replace`: variance layers for the stock layers of a model."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import keras

from keras_variance import _keras, checks
from keras_variance.distributions import posteriors
from keras_variance.estimators import WeightSampling
from keras_variance.estimators import get as get_estimator
from keras_variance.layers import VarianceWrapper, layer_paths
from keras_variance.layers.wrapper import is_kernel, named
from keras_variance.random import derive
from keras_variance.transforms.rebuild import assign, rebuild
from keras_variance.transforms.replacing.plan import new_layer, plan, reasons

Layers: TypeAlias = (
    keras.Layer
    | str
    | Sequence[keras.Layer | str]
    | type
    | tuple[type, ...]
    | Callable[[keras.Layer], bool]
    | None
)


def replace(
    model: keras.Model,
    posterior: str | dict | posteriors.Posterior = "layer_alpha",
    layers: Layers = None,
    strict: bool = False,
    fresh: bool = False,
    **kwargs,
) -> keras.Model:
    """Stock layers turned into variance layers, their weights kept as θ.

    The start of variational training from a trained model. New layers have copies
    of the weights; the other layers are shared with the source.

    By default a layer is turned if it has a variance class, as `Dense` has
    `VarianceDense`, and is called in the graph of the model or of a model nested in
    it. Other layers with kernels (recurrent ones, attention, a block of KerasHub, your
    own) are turned when `layers` chooses them: into a `VarianceWrapper`, which draws
    their weights once per call. Of a layer inside of such a layer, only its own weights
    are drawn then. What is left though it was chosen is named in a warning;
    `replace_report` has all layers, and the reasons.

    Args:
        model: A built Sequential or Functional model. The result of a subclass of
            these is a plain model.
        posterior: A posterior, which starts where its arguments say. Of one with means
            the standard deviation of a weight starts at 8 % of it by default
            (`"additive"`: of the layer's root mean square), and predictions close to
            the source's. With `"zero_mean"` the standard deviation of a weight starts
            at its absolute value and its mean is 0: the outputs of a layer have its
            bias as mean, and predictions are those of an untrained model.
        layers: What to turn: layers, their paths, as `"encoder/dense"`, or names that
            only one has; a layer class, or a tuple of classes; a function of a layer
            that is true for those to turn; or `"last"`, the last layer with a kernel.
            A nested model stands for all layers in it. Defaults to all.
        strict: Whether to raise an error if a chosen layer with a kernel is left.
        fresh: Whether θ starts anew from the layers' initializers, and not from the
            model's weights. Biases are kept.
        **kwargs: Further arguments of the new layers, such as `prior` and
            `train_size`. From a `seed` each layer gets one of its own. A prior with
            `mean="initial"` is centered at the θ that a layer starts from.

    Returns:
        A model with the same nesting and names.

    Raises:
        ValueError: If nothing can be turned, with the reason for each layer; if a layer
            that is given itself, or by its path or name, can't be; with `strict` if
            any is left; or for `layers` that are not the model's.

    Example:

    >>> import keras
    >>> model = keras.Sequential(
    ...     [keras.Input((5, 4)), keras.layers.LSTM(8), keras.layers.Dense(3)]
    ... )
    >>> stochastic = replace(model, layers="last", prior="log_uniform", train_size=100)
    >>> [type(layer).__name__ for layer in stochastic.layers]
    ['LSTM', 'VarianceDense']
    >>> stochastic = replace(model, layers=(keras.layers.LSTM, keras.layers.Dense))
    >>> [type(layer).__name__ for layer in stochastic.layers]
    ['VarianceWrapper', 'VarianceDense']
    """
    posterior = posteriors.get(posterior)
    strict, fresh = checks.flag("strict", strict), checks.flag("fresh", fresh)
    parts = plan(model, layers)
    _check_missed(parts, strict)
    turned: dict[int, list] = {}
    for part in parts:
        if part.result:
            turned.setdefault(id(part.operation), []).append(part)
    _check_estimator(turned.values(), kwargs)
    seed = checks.seed(kwargs.pop("seed", None))
    seeds = {key: derive(seed, k) for k, key in enumerate(turned)}
    made = []

    def make(layer):
        own = turned.get(id(layer))
        if own is None:
            return layer
        wraps = own[0].result is VarianceWrapper
        new = _wrapper(layer, own) if wraps else new_layer
        new = new(layer, posterior=posterior, seed=seeds[id(layer)], **kwargs)
        made.append((new, layer))
        return new

    result = rebuild(model, make)
    for new, layer in made:
        _start(new, layer, fresh)
    return result


def _wrapper(stock, parts):
    """A function of arguments that makes the wrapper of a layer, not built."""
    chosen = {id(kernel) for part in parts for kernel in part.kernels}
    every = [x for _, x in named(stock)]
    # Numbers: the layers inside of the copy may have other names
    numbers = [k for k, x in enumerate(every) if id(x) in chosen]
    weights = None if len(numbers) == sum(map(is_kernel, every)) else numbers

    def new(stock, **kwargs):
        arguments = {"name": stock.name, "trainable": stock.trainable, **kwargs}
        arguments.pop("estimator", None)  # the wrapper's own, as was checked
        return VarianceWrapper(_copy(stock), weights, **arguments)

    return new


def _copy(stock):
    """A layer like another, built if it has a `build`: a trace of its call, as for its
    output's shape, would build the layers inside of it first."""
    layer = _keras.clone(stock)
    has_build = type(layer).build not in (keras.Layer.build, keras.Model.build)
    if has_build and not layer.built:  # a decoder of KerasHub is, from its config
        layer.build_from_config(stock.get_build_config())
    return layer


def _start(new, stock, fresh):
    """Give a new layer the weights of the stock one."""
    drawn = {id(weight.variable) for weight in new.random_weights} if fresh else ()
    if isinstance(new, VarianceWrapper):
        pairs = zip(new.layer.variables, stock.variables, strict=True)
        olds, news = (layer_paths(x).values() for x in (stock, new.layer))
        for old, each in zip(olds, news, strict=True):
            each.trainable = old.trainable
    else:
        known = {weight.name for weight in stock.weights}
        own = [x for x in new.weights if x.name in known]
        # The attribute, which has LoRA weights in it
        pairs = [(variable, getattr(stock, variable.name)) for variable in own]
    for variable, value in pairs:
        if id(variable) not in drawn:
            assign(variable, value)
    new.start_from_weights()


def _check_missed(parts, strict):
    """Raise ValueError or warn if layers are left that were chosen."""
    missed = [part for part in parts if part.is_missed]
    if not missed:
        return
    expected = f"False for a model of which layers are left: {reasons(missed)}"
    checks.require(not strict, "strict", expected, strict)
    some = ", ".join(f"'{part.path}'" for part in missed[:3])
    some += ", …" if len(missed) > 3 else ""
    warnings.warn(
        f"{len(missed)} layers with kernels are left as they are: {some}. "
        "`keras_variance.transforms.replace_report` gives the reasons. What has no "
        "variance class is wrapped if `layers` chooses it.",
        stacklevel=3,
    )


def _check_estimator(turned, kwargs):
    """Raise ValueError for an estimator that a wrapper does not have."""
    wrapped = [parts[0] for parts in turned if parts[0].result is VarianceWrapper]
    estimator = kwargs.get("estimator")
    if wrapped and estimator is not None:
        known = isinstance(get_estimator(estimator), WeightSampling)
        names = [part.operation.name for part in wrapped]
        expected = f"'weight_sampling' or None for layers that are wrapped, as {names}"
        checks.require(known, "estimator", expected, estimator)


class ReplacedLayer(NamedTuple):
    """What `replace` makes of a layer with weights.

    Attributes:
        path: The layer's, in the model.
        layer: Its class.
        result: The class of the variance layer that it, or the layer that it is inside
            of, is turned into; empty if it is left.
        weights: The number of its own weights, all entries.
        random: How many of these are random in the result.
        reason: Why it is left; empty if it is not.
    """

    path: str
    layer: str
    result: str
    weights: int
    random: int
    reason: str = ""


class ReplaceReport(NamedTuple):
    """What `replace` makes of a model's layers; prints as a table."""

    layers: tuple[ReplacedLayer, ...]

    @property
    def share(self) -> float:
        """The share of the model's weights that are random in the result."""
        weights = sum(row.weights for row in self.layers)
        return sum(row.random for row in self.layers) / weights

    def __str__(self):
        rows = [("layer", "class", "random", "of", "turned into")]
        for row in self.layers:
            counts = str(row.random), str(row.weights)
            rows.append((row.path, row.layer, *counts, row.result or f"({row.reason})"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{path:<{widths[0]}}  {layer:<{widths[1]}}"
            f"  {random:>{widths[2]}}  {of:>{widths[3]}}  {result}"
            for path, layer, random, of, result in rows
        ]
        return "\n".join(lines)


def replace_report(model: keras.Model, layers: Layers = None) -> ReplaceReport:
    """What `replace` would make of each layer of a model that has weights.

    Args, Raises: as `replace`.

    Example:

    >>> import keras
    >>> lstm = keras.layers.LSTM(8, name="rows")
    >>> dense = keras.layers.Dense(3, name="dense")
    >>> model = keras.Sequential([keras.Input((5, 4)), lstm, dense])
    >>> print(replace_report(model, layers="last"))
    layer           class     random   of  turned into
    rows/lstm_cell  LSTMCell       0  416  (not chosen)
    dense           Dense         24   27  VarianceDense
    """
    rows = []
    for part in plan(model, layers):
        rows.append(
            ReplacedLayer(
                path=part.path,
                layer=type(part.layer).__name__,
                result=part.result.__name__ if part.result else "",
                weights=_size(part.weights),
                random=_size(part.random),
                reason=part.reason,
            )
        )
    return ReplaceReport(tuple(rows))


def _size(variables):
    return sum(math.prod(x.shape) for x in variables)
