"""REINFORCE with one sample of the weights per episode."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy import integrate, special, stats

import keras_variance as kv
from examples.paper import policies
from tests.statistics import threshold

REWARDS = np.array([1.0, -0.5])  # of the arms
LIMIT = 3


class Bandit:
    """Two arms, one state, one step."""

    def reset(self, seed):
        return np.ones(1, "float32"), {}

    def step(self, action):
        return np.ones(1, "float32"), REWARDS[action], True, False, {}


def bandit_policy():
    """One variance unit, ReLU, two logits; SGD of rate 1 subtracts the gradient."""
    variance = kv.VarianceDense(1, estimator="weight_sampling")
    model = keras.Sequential(
        [keras.Input((1,)), variance, layers.ReLU(), layers.Dense(2)]
    )
    model.set_weights([np.array(x) for x in ([[1.2]], [0.3], [[1.5, -0.5]], [0.2, 0])])
    model.compile(keras.optimizers.SGD(1.0), policies.Reinforce())
    return model


def step(policy, start, random):
    """An episode, the weights it was played with, and what `learn` subtracts."""
    policy.set_weights(start)
    with policies.one_sample(policy):
        weights = policies.weights(policy)
        episode = policies.play(Bandit(), weights, random, seed=0)
        policies.learn(policy, episode, episode.rewards, LIMIT)
    after = policy.get_weights()
    return episode, weights, [a - b for a, b in zip(start, after, strict=True)]


def flat(arrays):
    return np.concatenate([np.ravel(each) for each in arrays])


def expected_return(parameters):
    """∫ Σ r(a) π(a|ε) N(ε) dε, by quadrature."""
    theta, bias, *last = parameters
    kernel, last_bias = np.split(np.array(last), 2)

    def integrand(noise):
        p = special.softmax(max(theta * noise + bias, 0) * kernel + last_bias)
        return REWARDS @ p * stats.norm.pdf(noise)

    kink = -bias / theta
    return sum(integrate.quad(integrand, *x)[0] for x in ((-9, kink), (kink, 9)))


def test_gradient_is_that_of_the_expected_return():
    keras.utils.set_random_seed(0)
    policy, random = bandit_policy(), np.random.default_rng(0)
    start = policy.get_weights()
    steps = [flat(step(policy, start, random)[-1]) for _ in range(1500)]
    parameters = flat(start).astype("float64")
    exact = [
        (expected_return(parameters + h) - expected_return(parameters - h)) / 2e-4
        for h in 1e-4 * np.eye(len(parameters))
    ]
    error = np.std(steps, axis=0) / np.sqrt(len(steps))
    z = (np.mean(steps, axis=0) + exact) / error  # of the negative return
    assert np.abs(z).max() < threshold(z.size), z
    assert np.all(np.abs(exact) > 5 * error)  # it says something of each


def test_learning_has_the_weights_of_acting():
    """Backpropagation by hand through the weights that have acted."""
    policy, random = bandit_policy(), np.random.default_rng(0)
    start = policy.get_weights()
    acted = []
    for _ in range(5):
        episode, weights, gradients = step(policy, start, random)
        (kernel, bias), (last, last_bias) = weights
        acted.append(kernel)
        hidden = np.maximum(kernel[0] + bias, 0)
        p = special.softmax(hidden @ last + last_bias)
        delta = (p - np.eye(2)[episode.actions[0]]) * episode.rewards[0]
        back = (last @ delta) * (hidden > 0)
        noise = kernel / start[0]
        expected = [noise * back, back, np.outer(hidden, delta), delta]
        np.testing.assert_allclose(flat(gradients), flat(expected), atol=1e-5)
    assert len(np.unique(acted)) == 5  # each episode has its own


@pytest.mark.parametrize("kind", policies.KINDS)
def test_weights_are_those_of_the_next_call(kind):
    policy = policies.build(kind, 4, 3)
    x = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
    outputs = []
    for _ in range(2):
        with policies.one_sample(policy):
            drawn = policies.weights(policy)
            outputs.append(policies.logits(drawn, x))
            called = keras.ops.convert_to_numpy(policy(x))
        np.testing.assert_allclose(outputs[-1], called, rtol=1e-4, atol=1e-5)
    assert np.array_equal(*outputs) == (kind == policies.DETERMINISTIC)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_scale_is_of_the_initial_deviations(scale):
    stddev = {}
    for kind in policies.KINDS:
        policy = policies.build(kind, 4, 3, scale)
        drawn = policies.weights(policy)[1][0]
        if kind == policies.NOISE:
            drawn = drawn - keras.ops.convert_to_numpy(policy.layers[2].kernel)
        stddev[kind] = drawn.std() * np.sqrt(policies.UNITS) / scale
    assert stddev == pytest.approx(
        {policies.DETERMINISTIC: 1, policies.NOISE: 0.5, policies.VARIANCE: 1}, rel=0.03
    )


def test_reinforce():
    """Against SciPy; padding counts for nothing."""
    random = np.random.default_rng(0)
    logits, advantages = random.normal(size=(4, 3)), random.normal(size=4)
    actions = [2, 0, 1, 1]
    p = special.softmax(logits, axis=-1)
    log_likelihood = np.log(p[np.arange(4), actions])
    expected = -advantages @ log_likelihood - 0.3 * stats.entropy(p, axis=-1).sum()
    loss = policies.Reinforce(entropy=0.3)
    labels = np.stack([actions, advantages], axis=1)
    assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-5)
    padded = [np.concatenate([x, np.ones((2, x.shape[1]))]) for x in (labels, logits)]
    masked = loss(*padded, sample_weight=np.array([1, 1, 1, 1, 0, 0]))
    assert float(masked) == pytest.approx(expected, rel=1e-5)
    again = policies.Reinforce.from_config(loss.get_config())
    assert float(again(labels, logits)) == float(loss(labels, logits))


def test_returns():
    np.testing.assert_allclose(policies.returns([1, 2, 4], 0.5), [3, 4, 4])


def test_advantages_are_of_the_episodes_before():
    baseline = policies.Baseline(limit=3, memory=0.5)
    np.testing.assert_array_equal(baseline.advantages(np.array([2.0, 0])), [0, 0])
    # The mean is (2, 0, 0), the mean square 1, then 0.5, then (0.5 + 2) / 2
    np.testing.assert_allclose(
        baseline.advantages(np.array([2.0, 2])), np.array([0, 2]) / np.sqrt(1.25)
    )
    # The mean is (2, 1, 0): a step that was never reached has a return of 0
    advantages = baseline.advantages(np.array([2.0, 1, 6]))
    np.testing.assert_allclose(advantages, np.array([0, 0, 6]) / np.sqrt(6.625))
