"""Seeds for all noise of the package."""

import contextlib
import threading
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from keras_variance import _keras, checks

__all__ = ["SeedGenerator", "held", "seeded"]

# Seeds that one `next()` sets apart: what a layer may use in a call.
BLOCK = 64
# Distances of the keys of replicas, of samples, of the weights of a layer and of the
# generators of a model: primes, far larger than the number of any, and far from small
# multiples of each other.
REPLICA_STRIDE = 1_000_003
SAMPLE_STRIDE = 7_368_787
WEIGHT_STRIDE = 49_979_687
GENERATOR_STRIDE = 179_424_673
# Of reading a state and writing the next one, for threads: no generator can have its
# own, as it would not be copied
_LOCK = threading.Lock()


class SeedGenerator(keras.random.SeedGenerator):
    """A `keras.random.SeedGenerator` that can hold, and differs by replica.

    - Replicas of a `tf.distribute` strategy draw different noise. The stock
      generator repeats the same draws on each.
    - Between `hold()` and `release()` every `next()` returns the same seed, in
      eager and in compiled code: common random numbers, or one weight sample
      for a whole reinforcement-learning episode and its gradient step.
    - Threads draw different noise in eager code. The stock generator, and compiled
      functions that several threads run at the same time, may repeat a draw.

    All of it lives in the one variable `state`: (key, counter, increment).

    Args:
        seed: Integer, or None for a random one (which
            `keras.utils.set_random_seed` makes repeatable).

    Example:

    >>> generator = SeedGenerator(seed=1)
    >>> generator.hold()
    >>> a = keras.random.normal((2,), seed=generator)
    >>> b = keras.random.normal((2,), seed=generator)
    >>> generator.release()
    >>> c = keras.random.normal((2,), seed=generator)
    >>> bool(ops.all(a == b)), bool(ops.all(b == c))
    (True, False)
    """

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs):
        super().__init__(checks.seed(seed), name, **kwargs)
        start = self.state
        self.state = keras.Variable(
            lambda shape, dtype: ops.append(start, ops.cast(BLOCK, dtype)),
            shape=(3,),
            dtype=start.dtype,
            trainable=False,
            aggregation="none",
            name="seed_generator_state",
        )

    def next(self, ordered=True):
        """The next seed, (key, counter), as a tensor of two integers."""
        with _LOCK:
            seed = _of_replica(self.state[:2])  # read before the variable changes
            seed = _folded(seed)
            self.state.assign(self.state + self.state[2] * _like(self.state, 0, 1, 0))
        return seed

    def hold(self):
        """Return the same seed from now on."""
        with _LOCK:
            self.state.assign(self.state * _like(self.state, 1, 1, 0))

    def release(self, increment=BLOCK):
        """Go on to new seeds."""
        increment = ops.cast(increment, self.state.dtype)
        zero = ops.zeros_like(increment)
        with _LOCK:
            state = self.state * _like(self.state, 1, 1, 0)
            self.state.assign(state + ops.stack([zero, increment, increment]))


class Stream(keras.random.SeedGenerator):
    """The seeds of one layer call, from the one that its generator gave.

    It has no variable: it lives as long as the call, and the same start gives
    the same seeds. `keras.random` takes a seed tensor only from a generator.
    """

    def __init__(self, start):
        self._seed = start

    def next(self, ordered=True):
        seed = self._seed
        self._seed = seed + _like(seed, 0, 1)
        return _folded(seed)

    def of_sample(self, index):
        """The stream of one sample of many, `index` an integer tensor."""
        return self._apart(index, SAMPLE_STRIDE)

    def of_weight(self, index):
        """The stream of one weight of many that a layer has."""
        return self._apart(index, WEIGHT_STRIDE)

    def of_generator(self, index):
        """The stream of one generator of many that a model has."""
        return self._apart(index, GENERATOR_STRIDE)

    def _apart(self, index, stride):
        start = self._seed
        return Stream(start + ops.cast(index, start.dtype) * _like(start, stride, 0))


def derive(seed: int | None, *path: int) -> int | None:
    """A seed of its own for each path of non-negative integers; None stays None."""
    if seed is None:
        return None
    sequence = np.random.SeedSequence(seed, spawn_key=path)
    return int(sequence.generate_state(1)[0] % 2**31)


@contextlib.contextmanager
def held(model: keras.Model) -> Iterator[None]:
    """All variance layers of a model repeat their noise in here.

    One sample of the weights for several calls, in eager and in compiled code: for
    example for an episode of reinforcement learning and its gradient step. Weights
    are one sample with `estimator="weight_sampling"`; other estimators draw outputs.

    Args:
        model: A Keras model or layer. Other random layers, such as dropout, go on.

    Raises:
        ValueError: If it has no variance layer.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential([keras.Input((4,)), VarianceDense(3)])
    >>> x = np.ones((2, 4))
    >>> with held(model):
    ...     same = bool(ops.all(model(x) == model(x)))
    >>> same, bool(ops.all(model(x) == model(x)))
    (True, False)
    """
    generators = [x for x in _generators(model) if isinstance(x, SeedGenerator)]
    checks.require(generators, "model", "a model with variance layers", model)
    before = [_keras.value_of(generator.state) for generator in generators]
    for generator in generators:
        generator.hold()
    try:
        yield model
    finally:
        for generator, state in zip(generators, before, strict=True):
            # As `next` leaves it; within another hold the increment is 0
            gone_on = state + state[2] * _like(state, 0, 1, 0)
            _keras.set_value(generator.state, gone_on)


@contextlib.contextmanager
def seeded(model: keras.Model, seed: int) -> Iterator[None]:
    """All random layers of a model draw the noise of a seed in here.

    Each has a stream of its own. Afterwards they go on where they were.

    Args:
        model: A Keras model or layer.
        seed: Integer, or a tensor of two.

    Raises:
        ValueError: If the model has no random layer, or for another seed.

    Example:

    >>> import numpy as np
    >>> from keras_variance import VarianceDense
    >>> model = keras.Sequential([keras.Input((4,)), VarianceDense(3)])
    >>> with seeded(model, 1):
    ...     first = model(np.ones((2, 4)))
    >>> with seeded(model, 1):
    ...     second = model(np.ones((2, 4)))
    >>> bool(ops.all(first == second))
    True
    """
    generators = _generators(model)
    checks.require(generators, "model", "a model with random layers", model)
    if not (ops.is_tensor(seed) and tuple(seed.shape) == (2,)):
        seed = checks.fixed_seed(seed)
    before = [_keras.value_of(each.state) for each in generators]
    try:
        for state, start in _starts(generators, seed):
            state.assign(start)
        with _keras.obeyed(generators):
            yield model
    finally:
        for generator, state in zip(generators, before, strict=True):
            _keras.set_value(generator.state, state)


def _generators(model):
    is_layer = isinstance(model, keras.Layer)
    checks.require(is_layer, "model", "a Keras model or layer", model)
    return _keras.seed_generators(model)


@contextlib.contextmanager
def seeded_scope(layer, seed):
    """A scope in which a layer draws the noise of a seed, without effect on variables.

    As `seeded`, inside of loops and of compiled functions too.
    """
    generators = _keras.seed_generators(layer)
    # An inner scope does not see the values of an outer one
    values = [(each, each.value) for each in layer.variables]
    values += _starts(generators, seed)
    with keras.StatelessScope(values) as scope, _keras.obeyed(generators):
        yield scope


def _starts(generators, seed):
    """(state, value) of each generator: a stream of its own from a seed."""
    seed = ops.convert_to_tensor([seed, 0] if isinstance(seed, int) else seed)
    for k, generator in enumerate(generators):
        state = generator.state
        start = Stream(ops.cast(seed, state.dtype)).of_generator(k).next()
        if isinstance(generator, SeedGenerator):
            start = ops.append(start, ops.cast(BLOCK, state.dtype))
        yield state, start


def _like(tensor, *values):
    if isinstance(tensor, np.ndarray):
        return np.array(values, tensor.dtype)
    return ops.convert_to_tensor(values, dtype=tensor.dtype)


def _folded(seed):
    """`seed`, on PyTorch with a hash of both numbers in the place of the first.

    Keras adds them there: all pairs with one sum would be one seed, such as those of
    two layers with consecutive seeds.
    """
    if keras.backend.backend() != "torch" or seed.is_meta:
        return seed
    words = ops.convert_to_numpy(seed).astype("uint32").tolist()
    (word,) = np.random.SeedSequence(words).generate_state(1).view("int32").tolist()
    return _like(seed, word, 0)


def _of_replica(seed):
    """`seed`, with another key on each replica of a `tf.distribute` strategy."""
    if keras.backend.backend() != "tensorflow":
        return seed
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return seed
    replica = ops.cast(context.replica_id_in_sync_group, seed.dtype)
    return seed + replica * _like(seed, REPLICA_STRIDE, 0)
