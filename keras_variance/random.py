"""Seeds for all noise of the package."""

import keras
import numpy as np
from keras import ops

# Seeds that one `next()` sets apart: what a layer may use in a call.
BLOCK = 64
# Distances of the keys of replicas, and of samples: primes, far larger than the
# number of either, and a sample's far from any multiple of a replica's.
REPLICA_STRIDE = 1_000_003
SAMPLE_STRIDE = 7_368_787


class SeedGenerator(keras.random.SeedGenerator):
    """A `keras.random.SeedGenerator` that can hold, and differs by replica.

    - Replicas of a `tf.distribute` strategy draw different noise. The stock
      generator repeats the same draws on each.
    - Between `hold()` and `release()` every `next()` returns the same seed, in
      eager and in compiled code: common random numbers, or one weight sample
      for a whole reinforcement-learning episode and its gradient step.

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

    def __init__(self, seed=None, name=None, **kwargs):
        super().__init__(seed, name, **kwargs)
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
        seed = _of_replica(self.state[:2])  # read before the variable changes
        self.state.assign(self.state + self.state[2] * _like(self.state, 0, 1, 0))
        return seed

    def hold(self):
        """Return the same seed from now on."""
        self.state.assign(self.state * _like(self.state, 1, 1, 0))

    def release(self):
        """Go on to new seeds."""
        state = self.state * _like(self.state, 1, 1, 0)
        self.state.assign(state + _like(self.state, 0, BLOCK, BLOCK))


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
        return seed

    def of_sample(self, index):
        """The stream of one sample of many, `index` an integer tensor."""
        start = self._seed
        return Stream(
            start + ops.cast(index, start.dtype) * _like(start, SAMPLE_STRIDE, 0)
        )


def derive(seed: int | None, *path: int) -> int | None:
    """A seed of its own for each path of non-negative integers; None stays None."""
    if seed is None:
        return None
    sequence = np.random.SeedSequence(seed % 2**32, spawn_key=path)
    return int(sequence.generate_state(1)[0] % 2**31)


def _like(tensor, *values):
    return ops.convert_to_tensor(values, dtype=tensor.dtype)


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
