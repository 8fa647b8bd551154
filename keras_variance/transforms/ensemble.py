"""`ensemble`: many samples in one call."""

import dataclasses
import math
from typing import Any

import keras
from keras import ops, tree

from keras_variance import _keras, families
from keras_variance.estimators import merge, split
from keras_variance.layers import VarianceLayer, find_variance_layers, variance_layers
from keras_variance.random import SeedGenerator, Stream, call_seeded
from keras_variance.transforms.moments import heads
from keras_variance.transforms.moments.propagate import propagate
from keras_variance.transforms.moments.rules import Moments
from keras_variance.transforms.walk import (
    Interpreter,
    Known,
    finish_call,
    is_functional,
    partial,
)

# Numbers in the largest activation of the samples that are drawn at the same time, on
# a CPU: what stays in its cache is not read from memory by each layer again.
CACHE = 2**18
DROPOUTS = (
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)


def ensemble(
    model: keras.Model,
    samples: int = 20,
    shared_noise: bool = True,
    seed: int | None = None,
    dropout: bool = False,
    integrate_last: bool = False,
) -> keras.Model:
    """A model that draws all samples of an ensemble in one call.

    What comes before the first random layer is computed once, and the moments of that
    layer (local reparameterization and moment matching); the rest runs on
    batch · samples examples, in parts that fit the cache.

    Args:
        model: A built model with variance layers, or with `dropout`. A subclassed
            model, and a layer that has variance layers inside, is called once for
            each sample.
        samples: Integer ≥ 1, the number of samples.
        shared_noise: Whether sample k has the same noise for every example of the
            batch. Each example still sees independent samples; examples are
            correlated, and far less noise is drawn.
        seed: Integer that makes the noise repeatable.
        dropout: Whether stock dropout and noise layers are random too, as in
            training: Monte Carlo dropout. BatchNorm stays as in inference.
        integrate_last: Whether the last variance layers are integrated and not drawn:
            each sample is then the mean over their noise, by `propagate_moments`.

    Returns:
        A Keras model with the same inputs, weights and losses, whose outputs have the
        shape (batch, samples, …).

    Raises:
        ValueError: If nothing in the model is random, or `samples` is below 1.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential([keras.Input((4,)), VarianceDense(3)])
    >>> tuple(ensemble(model, samples=5)(np.ones((2, 4))).shape)
    (2, 5, 3)

    References: Variance Networks (https://arxiv.org/abs/1803.03764): test-time
    averaging; Gal & Ghahramani, Dropout as a Bayesian Approximation
    (https://arxiv.org/abs/1506.02142).
    """
    options = {"dropout": dropout, "integrate_last": integrate_last}
    return Ensemble(model, samples, shared_noise, seed, **options).as_model()


@keras.saving.register_keras_serializable("keras_variance")
class Ensemble(Interpreter):
    """A model, walked with samples: the one layer of `ensemble`."""

    def __init__(
        self,
        model,
        samples=20,
        shared_noise=True,
        seed=None,
        dropout=False,
        integrate_last=False,
        head="quasi_monte_carlo",
        **kwargs,
    ):
        if not (dropout and _has_dropout(model)):
            find_variance_layers(model)
        samples = families.integer("samples", samples, minimum=1)
        super().__init__(model, **kwargs)
        self.samples = samples
        self.shared_noise = shared_noise
        self.seed = seed
        self.dropout = dropout
        self.integrate_last = integrate_last
        self.head = heads.get(head)
        self.seed_generator = SeedGenerator(seed)

    def as_model(self):
        if self.integrate_last and is_functional(self.model):
            self.check()
        return super().as_model()

    def call(self, inputs, training=None, mask=None):
        draws = self.draws(inputs, training, mask)
        outputs = draws.collect(lambda chunk: [_mean_and_mask(x.mean) for x in chunk])
        return draws.pack([_keras.set_mask(*each) for each in outputs])

    def draws(self, inputs, training=None, mask=None, at_once=None) -> "Draws":
        """The samples of a batch, to be drawn; at most `at_once` at the same time."""
        inputs = self.standardized(inputs, mask)
        program = partial(self.model, inputs, self.is_source, training)
        rows = ops.shape(tree.flatten(inputs)[0])[0]
        at_once = at_once or self.samples
        return Draws(self, program, self.samples, rows, training, at_once)

    def is_source(self, operation, kwargs):
        """Whether a call has noise of its own."""
        if isinstance(operation, DROPOUTS):
            return bool(self.dropout or kwargs.get("training"))
        return isinstance(operation, keras.Layer) and bool(variance_layers(operation))

    def output_spec(self, spec):
        shape = (spec.shape[0], self.samples, *spec.shape[1:])
        return keras.KerasTensor(shape, spec.dtype)

    def get_config(self):
        names = ("samples", "shared_noise", "seed", "dropout", "integrate_last")
        config = {name: getattr(self, name) for name in names}
        config["head"] = keras.saving.serialize_keras_object(self.head)
        return {**super().get_config(), **config}


def _has_dropout(model):
    every = model._flatten_layers() if isinstance(model, keras.Model) else ()
    return any(isinstance(layer, DROPOUTS) for layer in every)


@dataclasses.dataclass(eq=False)
class Samples:
    """Samples of a value of the model's graph, merged into the batch."""

    tensor: Any  # (batch · samples, …)


class Draws:
    """The samples of a model's outputs for one batch, in chunks.

    Attributes:
        samples: Their number; 1 if nothing is left to be drawn.
        count: Chunks, an integer or a scalar tensor.
        chunk: Samples in each of them, likewise.
    """

    def __init__(self, ensemble, program, samples, rows, training, at_once):
        self.ensemble = ensemble
        self.program = program
        self._options = rows, training, at_once
        self.integrated = self._integrated() if ensemble.integrate_last else []
        self.samplers = {
            step: self._sampler(step)
            for step in program.steps
            if step.is_source and step not in self.integrated
        }
        self.samples = samples if self.samplers else 1
        self.chunk = self.samples
        # A loop would hide the losses of the layers in it
        if not training and not any(map(_has_loss, program.steps)):
            self.chunk = _chunk(self.samples, min(at_once, self.samples), rows, program)
        self.count = self.samples // self.chunk

    def of(self, samples):
        """Other samples of the same batch."""
        return Draws(self.ensemble, self.program, samples, *self._options)

    def _integrated(self):
        known = (VarianceLayer, *DROPOUTS)
        ends = self.program.ends()
        return [step for step in ends if isinstance(step.operation, known)]

    def draw(self, index):
        """A chunk of samples.

        Returns:
            `Moments` for each output, flat: of the samples, (batch, chunk, …), with a
            variance where the last layers are integrated. The mean has the mask.
        """
        chunk = self.chunk

        def call(step, args, kwargs):
            if step in self.samplers:
                return self.samplers[step](args, kwargs, index)
            values = tree.map_structure(self._repeat, (args, kwargs))
            random = any(isinstance(x, Moments) for x in tree.flatten(values))
            if random or step in self.integrated:
                args, kwargs = tree.map_structure(_moments, values)
                return propagate(step.operation, args, kwargs, self.ensemble.head)
            args, kwargs = tree.map_structure(_tensor, values)
            return tree.map_structure(Samples, step.operation(*args, **kwargs))

        outputs = map(self._repeat, self.program.run(call))
        outputs = [Moments(x.tensor) if isinstance(x, Samples) else x for x in outputs]
        return [x.map(lambda x: _with_mask(split, x, chunk)) for x in outputs]

    def _repeat(self, value):
        if not isinstance(value, Known):
            return value
        return Samples(_with_mask(ops.repeat, value.tensor, self.chunk, 0))

    def collect(self, finish):
        """`finish(chunk)` of all samples: tensors (batch, samples, …), in a list."""
        if _is_one(self.count):
            chunks = finish(self.draw(0))
        else:
            chunks = ops.map(lambda k: finish(self.draw(k)), ops.arange(self.count))
            chunks = tree.map_structure(_join, chunks)
        if self.samplers:
            return chunks
        samples = self.ensemble.samples
        return tree.map_structure(lambda x: ops.repeat(x, samples, axis=1), chunks)

    def fold(self, finish, merge):
        """`finish(chunk)` of all chunks, merged by `merge(total, more)`."""
        total = finish(self.draw(0))
        if _is_one(self.count):
            return total

        def add(k, total):
            return merge(total, finish(self.draw(k)))

        return ops.fori_loop(1, self.count, add, total)

    def pack(self, flat):
        """Values in the structure of the model's outputs."""
        return tree.pack_sequence_as(self.program.outputs, flat)

    def _sampler(self, step):
        """A function of (args, kwargs, chunk index) that draws the step's outputs."""
        layer = step.operation
        seed = Stream(self.ensemble.seed_generator.next())
        if isinstance(layer, VarianceLayer):
            return self._variance_layer(step, seed)
        each = self._once if isinstance(layer, DROPOUTS) else self._separately

        def draw(args, kwargs, index):
            args, kwargs = tree.map_structure(self._repeat, (args, kwargs))
            args, kwargs = tree.map_structure(_tensor, (args, kwargs))
            return each(layer, seed.of_sample(index * self.chunk), args, kwargs)

        return draw

    def _variance_layer(self, step, seed):
        layer, random = step.operation, step.operation.random_linear()

        def sampler(inputs, repeats):
            inputs = ops.cast(inputs, layer.compute_dtype)
            shared = self.ensemble.shared_noise
            return layer.estimator.sampler(random, inputs, repeats, shared)

        first = step.args[0]
        known = sampler(first.tensor, 1) if isinstance(first, Known) else None

        def draw(args, kwargs, index):
            x = _tensor(self._repeat(args[0])) if known is None else None
            sample = known or sampler(x, self.chunk)
            outputs = sample(seed.of_sample(index * self.chunk), self.chunk)
            inputs = args[0].tensor
            if known and _keras.get_mask(inputs) is not None:
                inputs = _with_mask(ops.repeat, inputs, self.chunk, 0)
            return Samples(finish_call(layer, inputs, layer.activate(outputs)))

        return draw

    def _once(self, layer, seed, args, kwargs):
        kwargs = {**kwargs, "training": True}
        return Samples(call_seeded(layer, seed.next(), *args, **kwargs))

    def _separately(self, layer, seed, args, kwargs):
        """A layer that cannot be inspected, called for each sample."""

        def one(k):
            def of_sample(x):
                if not ops.is_tensor(x):
                    return x
                return _with_mask(lambda x: ops.take(split(x, self.chunk), k, 1), x)

            values = tree.map_structure(of_sample, (args, kwargs))
            return call_seeded(layer, seed.of_sample(k).next(), *values[0], **values[1])

        outputs = ops.map(one, ops.arange(self.chunk))
        return tree.map_structure(
            lambda x: Samples(merge(ops.moveaxis(x, 0, 1))), outputs
        )


def _chunk(samples, at_once, rows, program):
    """How many samples to draw at the same time: a divisor of their number."""
    divisors = [k for k in range(1, at_once + 1) if samples % k == 0]
    if keras.distribution.list_devices("gpu") or keras.distribution.list_devices("tpu"):
        return divisors[-1]
    specs = [x.spec for step in program.steps for x in step.outputs]
    width = max(math.prod(n or 1 for n in x.shape[1:]) for x in specs)
    if isinstance(rows, int):
        return max(k for k in divisors if k == 1 or k * rows * width <= CACHE)
    fits = ops.convert_to_tensor(divisors, "int32") * (rows * width) <= CACHE
    return ops.max(ops.where(fits, divisors, 1))


def _is_one(count):
    return isinstance(count, int) and count == 1


def _mean_and_mask(x):
    mask = _keras.get_mask(x)
    return (x,) if mask is None else (x, mask)


def _has_loss(step):
    return getattr(step.operation, "activity_regularizer", None) is not None


def _join(chunks):
    """(chunks, batch, chunk, …) to (batch, chunks · chunk, …)."""
    count, batch, chunk, *rest = ops.shape(chunks)
    return ops.reshape(ops.moveaxis(chunks, 0, 1), (batch, count * chunk, *rest))


def _tensor(value):
    return value.tensor if isinstance(value, Samples) else value


def _moments(value):
    return Moments.of(value.tensor) if isinstance(value, Samples) else value


def _with_mask(function, x, *args):
    """`function(x, …)`, with the mask of `x` treated alike."""
    mask = _keras.get_mask(x)
    y = function(x, *args)
    return y if mask is None else _keras.set_mask(y, function(mask, *args))
