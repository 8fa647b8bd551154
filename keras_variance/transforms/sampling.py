"""Samples of a model's outputs: how a `Program` is run many times."""

import dataclasses
import math
from typing import Any

import keras
from keras import ops, tree

from keras_variance.estimators import split
from keras_variance.layers import VarianceLayer
from keras_variance.layers.weights import RandomWeights
from keras_variance.random import Stream, seeded_scope
from keras_variance.transforms.moments.propagate import propagate
from keras_variance.transforms.moments.rules import Moments
from keras_variance.transforms.repeating import repeat, separately, with_mask
from keras_variance.transforms.sources import DROPOUTS
from keras_variance.transforms.walk import Known, finish_call, output_mask

# Numbers in the largest activation of the samples that are drawn at the same time, on
# a CPU: few enough to stay in its cache, so many that a turn of the loop costs little.
CACHE = 2**20


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
        known = (RandomWeights, *DROPOUTS)
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
                head, source = self.ensemble.head, step in self.integrated
                return propagate(step.operation, args, kwargs, head, source)
            args, kwargs = tree.map_structure(_tensor, values)
            return tree.map_structure(Samples, step.operation(*args, **kwargs))

        outputs = map(self._repeat, self.program.run(call))
        outputs = [Moments(x.tensor) if isinstance(x, Samples) else x for x in outputs]
        return [x.map(lambda x: with_mask(split, x, chunk)) for x in outputs]

    def _repeat(self, value):
        if not isinstance(value, Known):
            return value
        return Samples(with_mask(repeat, value.tensor, self.chunk, 0))

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
        return tree.map_structure(lambda x: repeat(x, samples, 1), chunks)

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

        def draw(args, kwargs, index):
            args, kwargs = tree.map_structure(self._repeat, (args, kwargs))
            args, kwargs = tree.map_structure(_tensor, (args, kwargs))
            stream = seed.of_sample(index * self.chunk)
            if isinstance(layer, DROPOUTS):
                return self._once(layer, stream, args, kwargs)
            outputs = separately(layer, self.chunk, stream, args, kwargs)
            return tree.map_structure(Samples, outputs)

        return draw

    def _variance_layer(self, step, seed):
        layer, random = step.operation, step.operation.random_linears()

        def sampler(random, inputs, repeats):
            shared = self.ensemble.shared_noise
            return layer.estimator.sampler(random, inputs, repeats, shared)

        first, known = step.args[0], None
        if isinstance(first, Known):
            known = sampler(random[0], layer.prepare(first.tensor), 1)

        def draw(args, kwargs, index):
            samplers = [known, *random[1:]] if known else random
            x = None if known else layer.prepare(_tensor(self._repeat(args[0])))
            streams = layer.streams(seed.of_sample(index * self.chunk))
            for each, (_, stream) in zip(samplers, streams, strict=True):
                sample = known if each is known else sampler(each, x, self.chunk)
                x = sample(stream, self.chunk)
            mask = output_mask(layer, args[0].tensor)
            if known and mask is not None:
                mask = repeat(mask, self.chunk, 0)
            return Samples(finish_call(layer, layer.activate(x), mask))

        return draw

    def _once(self, layer, seed, args, kwargs):
        """A dropout layer, as in training. Not by `__call__`, from which Keras hands
        `training=True` on to the layers that are called after it."""
        inputs = ops.cast(args[0], layer.compute_dtype)
        with seeded_scope(layer, seed.next()):
            outputs = layer.call(inputs, training=True)
        return Samples(finish_call(layer, outputs, output_mask(layer, args[0])))


def _chunk(samples, at_once, rows, program):
    """How many samples to draw at the same time: a divisor of their number."""
    divisors = [k for k in range(1, at_once + 1) if samples % k == 0]
    if _on_accelerator():
        return divisors[-1]
    specs = [x.spec for step in program.steps for x in step.outputs]
    width = max((math.prod(n or 1 for n in x.shape[1:]) for x in specs), default=1)
    if isinstance(rows, int):
        return max(k for k in divisors if k == 1 or k * rows * width <= CACHE)
    if not ops.is_tensor(rows):  # a symbolic dimension
        return divisors[-1]
    divisors = ops.convert_to_tensor(divisors)
    fits = ops.cast(divisors, "float32") * width <= CACHE / ops.cast(rows, "float32")
    return ops.max(ops.where(fits, divisors, 1))


def _on_accelerator():
    if keras.backend.backend() == "torch":
        return ops.zeros(()).device.type not in ("cpu", "meta")
    return any("cpu" not in each for each in keras.distribution.list_devices())


def _is_one(count):
    return isinstance(count, int) and count == 1


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
