"""REINFORCE with a policy whose weights are one sample per episode.

An episode and its gradient step are one block of `one_sample(policy)`: `play` acts
with the `weights` that are drawn in it, in NumPy, and `learn` steps with the same.
"""

import contextlib
from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops

import keras_variance as kv

UNITS = 256  # of each hidden layer
DETERMINISTIC, NOISE, VARIANCE = "deterministic", "parameter noise", "variance layer"
KINDS = (DETERMINISTIC, NOISE, VARIANCE)
GLOROT_STDDEV = UNITS**-0.5  # of a kernel, (256, 256)
# Of parameter noise, for a mean of that deviation: Fortunato et al. start at half
NOISE_SHARE = 0.5


class Episode(NamedTuple):
    """What a policy has seen and done: arrays with an entry per step.

    Attributes:
        states: (steps, observations).
        actions: (steps,), integers.
        rewards: (steps,).
    """

    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray


def build(kind, observations, actions, scale=1.0):
    """A policy: three dense layers from observations to logits of actions.

    Args:
        kind: One of `KINDS`: of the second layer.
        observations, actions: Integers, how many there are.
        scale: Of the initial standard deviations of the second layer's weights, or,
            of a deterministic one, of the weights.
    """
    kernel = keras.initializers.VarianceScaling(scale**2, "fan_avg", "uniform")
    if kind == DETERMINISTIC:
        second = layers.Dense(UNITS, kernel_initializer=kernel)
    else:
        options = {"estimator": "weight_sampling"}
        if kind == NOISE:
            stddev = scale * NOISE_SHARE * GLOROT_STDDEV
            options["posterior"] = kv.posteriors.Additive(2 * np.log(stddev))
        else:
            options["kernel_initializer"] = kernel
        second = kv.VarianceDense(UNITS, **options)
    return keras.Sequential(
        [
            keras.Input((observations,)),
            layers.Dense(UNITS),
            layers.ReLU(),
            second,
            layers.ReLU(),
            layers.Dense(actions),
        ]
    )


@keras.saving.register_keras_serializable("keras_variance_examples")
class Reinforce(keras.losses.Loss):
    """−Σ A log π(a|s) − entropy · H(π(·|s)), summed over the steps of an episode.

    With advantages A that do not depend on the action, its gradient is an unbiased
    estimate of that of the negative expected return; for random weights w = θ ε too,
    if both the actions and the gradient are those of one ε.

    Labels are (steps, 2): the action and its advantage; predictions are logits.

    Reference: Williams, Simple statistical gradient-following algorithms (1992).
    """

    def __init__(self, entropy=0.0, name="reinforce", **kwargs):
        super().__init__(name=name, **{"reduction": "sum", **kwargs})
        self.entropy = entropy

    def call(self, y_true, y_pred):
        log_p = ops.log_softmax(y_pred)
        action, advantage = ops.cast(y_true[:, 0], "int32"), y_true[:, 1]
        taken = ops.sum(ops.one_hot(action, y_pred.shape[-1]) * log_p, axis=-1)
        entropy = -ops.sum(ops.exp(log_p) * log_p, axis=-1)
        return -advantage * taken - self.entropy * entropy

    def get_config(self):
        return {**super().get_config(), "entropy": self.entropy}


def one_sample(policy):
    """A block in which the weights of a policy are one sample."""
    if kv.layers.variance_layers(policy):
        return kv.random.held(policy)
    return contextlib.nullcontext(policy)


def weights(policy):
    """(kernel, bias) of each dense layer, in NumPy, as the next call draws them."""
    return [_weights(layer) for layer in policy.layers if hasattr(layer, "kernel")]


def _weights(layer):
    kernel, bias = layer.kernel, ops.convert_to_numpy(layer.bias)
    if not isinstance(layer, kv.VarianceLayer):
        return ops.convert_to_numpy(kernel), bias
    outputs = layer(np.eye(kernel.shape[0], dtype="float32"))
    return ops.convert_to_numpy(outputs) - bias, bias


def logits(weights, x):
    """Of the actions in a state (or in several), through layers with ReLU between."""
    *hidden, (kernel, bias) = weights
    for each in hidden:
        x = np.maximum(x @ each[0] + each[1], 0)
    return x @ kernel + bias


def play(environment, weights, random, seed):
    """An `Episode` of the policy with these weights.

    Args:
        environment: Of Gymnasium; it ends episodes by itself.
        weights: As `weights` returns them.
        random: NumPy's generator, for actions.
        seed: Integer, of the environment.
    """
    state, _ = environment.reset(seed=seed)
    steps, done = [], False
    while not done:
        z = logits(weights, state)
        action = int(np.argmax(z + random.gumbel(size=z.shape)))  # from the softmax
        following, reward, terminated, truncated, _ = environment.step(action)
        steps.append((state, action, reward))
        state, done = following, terminated or truncated
    return Episode(*map(np.array, zip(*steps, strict=True)))


def learn(policy, episode, advantages, limit):
    """One step of the compiled policy's optimizer.

    Args:
        policy: Compiled with `Reinforce`.
        episode: An `Episode`.
        advantages: (steps,).
        limit: The most steps of an episode, to which it is padded: so there is one
            shape, and one trace.
    """
    labels = np.stack([episode.actions, advantages], axis=1)
    ones = np.ones(len(labels))
    policy.train_on_batch(
        *(_padded(each, limit) for each in (episode.states, labels, ones))
    )


def _padded(x, length):
    rest = np.zeros((length - len(x), *x.shape[1:]))
    return np.concatenate([x, rest]).astype("float32")


def returns(rewards, discount):
    """Discounted sums of the rewards from each step on: (steps,)."""
    total, sums = 0.0, np.zeros(len(rewards))
    for step in reversed(range(len(rewards))):
        total = sums[step] = rewards[step] + discount * total
    return sums


class Baseline:
    """Advantages: returns minus their running mean at that step, in units of its rms.

    A step that an episode does not reach has return 0. The mean is of the episodes
    before: an unbiased gradient asks for that.

    Args:
        limit: The most steps of an episode.
        memory: Of the running means, from 0 to below 1.
    """

    def __init__(self, limit, memory=0.95):
        self.limit = limit
        self.memory = memory
        self.mean = None
        self.square = None

    def advantages(self, returns):
        padded = np.pad(returns, (0, self.limit - len(returns)))
        if self.mean is None:
            self.mean, self.square = padded, np.var(returns)
        difference = returns - self.mean[: len(returns)]
        self.square = self._running(self.square, np.mean(np.square(difference)))
        self.mean = self._running(self.mean, padded)
        return difference / np.sqrt(self.square + 1e-8)

    def _running(self, before, now):
        return self.memory * before + (1 - self.memory) * now
