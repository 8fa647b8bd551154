"""Attacks, and training against them, on a linear classifier."""

import keras
import numpy as np
import pytest

import keras_variance as kv
from examples.paper.adversarial_training import AdversarialTraining
from examples.paper.attacks import Attacked
from tests import backends

pytestmark = pytest.mark.skipif(
    backends.BACKEND != "tensorflow", reason="the toolbox's estimators are TensorFlow's"
)
SHAPE, COUNT = (8, 8, 1), 30
EPSILON = 0.02


@pytest.fixture
def network(rng):
    """Logits of images of two classes, so that gradients keep their signs."""
    layers = [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential(layers)


def gradients(network, x, labels):
    """Of the loss by the images, by hand."""
    weights = np.asarray(network.layers[-1].kernel)
    p = np.asarray(keras.ops.softmax(network(x)))
    return ((p - np.eye(2)[labels]) @ weights.T).reshape(x.shape)


def test_attacks(network, rng):
    """A step follows the gradient; descent ends in a corner, and is kept in range."""
    attacked = Attacked(keras.Sequential([network, keras.layers.Softmax()]))
    x = rng.uniform(0.2, 0.8, (COUNT, *SHAPE)).astype("float32")
    labels = np.asarray(network(x)).argmax(axis=-1)
    np.testing.assert_array_equal(attacked.classes(x), labels)

    goals = 1 - labels
    expected = x - EPSILON * np.sign(gradients(network, x, goals))
    np.testing.assert_allclose(attacked.step(x, goals, EPSILON), expected, atol=1e-6)

    changed = attacked.descent(x, labels, EPSILON, steps=20)
    assert np.abs(changed - x).max() <= EPSILON + 1e-6
    assert np.mean(attacked.classes(changed) == labels) < 1
    assert attacked.descent(x, labels, 10.0, steps=5).max() <= 1

    found = attacked.square(x, labels, 5 * EPSILON, queries=30)
    assert np.abs(found - x).max() <= 5 * EPSILON + 1e-6
    assert np.mean(attacked.classes(found) == labels) < 1


def test_descent_averages_over_noise(rng):
    """It goes against the mean weights, in each direction."""
    layers = [keras.Input(SHAPE), keras.layers.Flatten()]
    dense = kv.VarianceDense(2, posterior="additive", use_bias=False)
    model = keras.Sequential([*layers, dense])
    signs = np.where(np.arange(64) % 3, 1.0, -1.0)
    dense.kernel.assign(np.stack([signs, 0 * signs], axis=-1))
    options = {"samples": 50, "likelihood": kv.likelihoods.Categorical(True)}
    attacked = Attacked(kv.transforms.average(model, **options))
    x = np.full((COUNT, *SHAPE), 0.5, "float32")
    changed = attacked.descent(x, np.zeros(COUNT, int), EPSILON, steps=20)
    direction = np.sign(np.mean(changed - x, axis=0)).ravel()
    np.testing.assert_array_equal(direction, -signs)


def test_training_moves_images_against_the_network(network, rng):
    x = rng.uniform(0.2, 0.8, (COUNT, *SHAPE)).astype("float32")
    labels = rng.integers(0, 2, COUNT)
    model = AdversarialTraining(network, [EPSILON], [0.21], [0.79])
    change = np.asarray(model.attacked(x, labels)) - x
    inside = (x > 0.21 + EPSILON) & (x < 0.79 - EPSILON)
    signs = np.sign(gradients(network, x, labels))
    np.testing.assert_array_equal(np.sign(change)[inside], signs[inside])
    size = np.abs(change)[inside]
    assert size.min() > EPSILON / 5 and size.max() <= EPSILON + 1e-6
    assert model.attacked(x, labels).numpy().max() <= 0.79


def test_training_is_saved(network, tmp_path, rng):
    model = AdversarialTraining(network, [EPSILON], [0.0], [1.0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    x = rng.uniform(size=(COUNT, *SHAPE))
    model.fit(x, rng.integers(0, 2, COUNT), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.epsilon == [EPSILON]
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6)
