"""Likelihoods of classes against brute force."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import keras_variance as kv
from keras_variance.likelihoods import Bernoulli, Categorical, get

layers = keras.layers
losses = keras.losses


@pytest.fixture
def p(rng):
    """Class probabilities, (5, 3)."""
    return rng.dirichlet(np.ones(3), size=5)


@pytest.fixture
def binary(rng):
    """Probabilities of two binary variables, (5, 2)."""
    return rng.uniform(0.01, 0.99, size=(5, 2))


def test_predictions(rng):
    logits = rng.normal(size=(4, 3)) * 3
    for likelihood, link in (
        (Categorical, lambda x: special.softmax(x, axis=-1)),
        (Bernoulli, special.expit),
    ):
        actual = likelihood(from_logits=True).predictions(ops.convert_to_tensor(logits))
        np.testing.assert_allclose(actual, link(logits), rtol=1e-5)
        assert likelihood().predictions(logits) is logits


def test_entropy(p, binary):
    entropy = Categorical().entropy(ops.convert_to_tensor(p))
    np.testing.assert_allclose(entropy, stats.entropy(p, axis=-1), rtol=1e-5)
    each = [stats.bernoulli(row).entropy().sum() for row in binary]
    entropy = Bernoulli().entropy(ops.convert_to_tensor(binary))
    np.testing.assert_allclose(entropy, each, rtol=1e-5)
    certain = ops.convert_to_tensor([[1.0, 0.0]])
    np.testing.assert_array_equal(Categorical().entropy(certain), [0])
    np.testing.assert_array_equal(Bernoulli().entropy(certain), [0])


def test_expected_entropy(rng):
    """To second order, against many draws of nearly known probabilities."""
    for likelihood, entropy, n in (
        (Categorical(), lambda p: special.entr(p).sum(axis=-1), 3),
        (Bernoulli(), lambda p: (special.entr(p) + special.entr(1 - p)).sum(-1), 2),
    ):
        if n == 3:
            draws = rng.dirichlet([300, 200, 100], size=100_000)
        else:
            draws = rng.beta([200, 300], [400, 100], size=(100_000, 2))
        mean, variance = draws.mean(axis=0), draws.var(axis=0)
        exact = entropy(draws).mean()
        moments = [ops.convert_to_tensor(each[None]) for each in (mean, variance)]
        (actual,) = np.asarray(likelihood.expected_entropy(*moments))
        gap = float(entropy(mean)) - exact
        assert gap > 5e-4
        assert actual == pytest.approx(exact, abs=0.05 * gap)


@pytest.mark.parametrize("kind", ["integers", "column", "one_hot", "floats", "bytes"])
def test_categorical_labels(kind, p):
    y = np.array([0, 2, 1, 1, 2])
    given = {
        "integers": y,
        "column": y[:, None],
        "one_hot": np.eye(3)[y],
        "floats": y.astype("float32"),
        "bytes": y.astype("uint8"),
    }[kind]
    likelihood = Categorical()
    expected = [
        stats.multinomial(1, row).logpmf(np.eye(3)[k])
        for row, k in zip(p, y, strict=True)
    ]
    np.testing.assert_allclose(likelihood.log_likelihood(given, p), expected)
    assert likelihood.accuracy(given, p) == np.mean(p.argmax(axis=-1) == y)
    labels, classes = likelihood.as_classes(given, p)
    np.testing.assert_array_equal(labels, y)
    np.testing.assert_array_equal(classes, p)


@pytest.mark.parametrize("kind", ["integers", "last_axis", "one_hot"])
def test_labels_of_pixels(kind, rng):
    p = rng.dirichlet(np.ones(4), size=(2, 3, 5))
    y = rng.integers(0, 4, size=(2, 3, 5))
    given = {"integers": y, "last_axis": y[..., None], "one_hot": np.eye(4)[y]}[kind]
    expected, hits = np.empty(y.shape), 0
    for index in np.ndindex(*y.shape):
        expected[index] = np.log(p[index][y[index]])
        hits += p[index].argmax() == y[index]
    actual = Categorical().log_likelihood(given, p)
    assert actual.shape == y.shape
    np.testing.assert_allclose(actual, expected)
    assert Categorical().accuracy(given, p) == pytest.approx(hits / y.size)
    labels, classes = Categorical().as_classes(given, p)
    assert labels.shape == (30,) and classes.shape == (30, 4)


def test_soft_labels(p):
    """The cross-entropy, as Keras's loss has it."""
    y = np.full((5, 3), [0.8, 0.1, 0.1])
    expected = -losses.categorical_crossentropy(y, p)
    actual = Categorical().log_likelihood(y, p)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_two_classes():
    """One-hot labels of two classes, for two examples, are not two binary ones."""
    p, y = np.array([[0.7, 0.3], [0.2, 0.8]]), np.array([[1, 0], [1, 0]])
    actual = Categorical().log_likelihood(y, p)
    np.testing.assert_allclose(actual, np.log([0.7, 0.2]))


@pytest.mark.parametrize("kind", ["integers", "booleans", "floats"])
def test_binary_labels(kind, binary):
    y = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [0, 1]])
    dtype = {"integers": "int32", "booleans": "bool", "floats": "float32"}[kind]
    likelihood = Bernoulli()
    expected = stats.bernoulli(binary).logpmf(y).sum(axis=-1)
    actual = likelihood.log_likelihood(y.astype(dtype), binary)
    np.testing.assert_allclose(actual, expected)
    hits = (binary > 0.5) == (y == 1)
    assert likelihood.accuracy(y.astype(dtype), binary) == hits.mean()
    labels, classes = likelihood.as_classes(y.astype(dtype), binary)
    np.testing.assert_array_equal(labels, y.ravel())
    np.testing.assert_allclose(classes[:, 1], binary.ravel())
    np.testing.assert_allclose(classes.sum(axis=-1), 1)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_binary_variable(shape):
    p, y = np.array([[0.9], [0.2], [0.6], [0.4]]), np.array([1, 0, 0, 1])
    given = y.reshape(shape)
    actual = Bernoulli().log_likelihood(given, p)
    np.testing.assert_allclose(actual, np.log([0.9, 0.8, 0.4, 0.4]))
    assert Bernoulli().accuracy(given, p) == 0.5


def test_binary_pixels(rng):
    p, y = rng.uniform(size=(2, 3, 3, 1)), rng.integers(0, 2, size=(2, 3, 3))
    expected = stats.bernoulli(p[..., 0]).logpmf(y)
    for given in (y, y[..., None]):
        np.testing.assert_allclose(Bernoulli().log_likelihood(given, p), expected)


def test_certain_and_wrong():
    """Finite, and very small."""
    for likelihood, p in ((Categorical(), [[0.0, 1.0]]), (Bernoulli(), [[1.0]])):
        value = likelihood.log_likelihood(np.array([0]), np.array(p))
        assert np.isfinite(value).all() and (value < -60).all()


BAD = {
    "negative": [0, 1, 2, 1, -1],
    "too large": [0, 1, 2, 1, 3],
    "nan": [0, 1, 2, 1, np.nan],
    "fraction": [0, 1, 2, 1, 0.5],
    "infinite": [0, 1, 2, 1, np.inf],
    "too few": [0, 1, 2],
    "too many": [[0, 1], [1, 2], [0, 0], [1, 1], [2, 2]],
    "no one-hot": np.ones((5, 3)),
    "negative one-hot": np.tile([2, -1, 0], (5, 1)),
    "nan one-hot": np.full((5, 3), np.nan),
    "strings": ["a", "b", "c", "d", "e"],
    "one": 1,
}


@pytest.mark.parametrize("name", BAD)
def test_bad_categorical_labels(name, p):
    message = r"Labels must be .*\. Received: y of shape \(.*\), y="
    for function in ("log_likelihood", "accuracy", "as_classes"):
        with pytest.raises(ValueError, match=message):
            getattr(Categorical(), function)(BAD[name], p)


@pytest.mark.parametrize("y", [-1, 2, np.nan, np.inf])
def test_bad_binary_labels(y, binary):
    labels = np.zeros((5, 2))
    labels[3, 1] = y
    for function in ("log_likelihood", "accuracy", "as_classes"):
        with pytest.raises(ValueError, match=r"Labels must be.*Received: y of shape"):
            getattr(Bernoulli(), function)(labels, binary)


@pytest.mark.parametrize("shape", [(4,), (5,), (5, 1), (5, 3), (5, 2, 1), ()])
def test_binary_labels_of_another_shape(shape, binary):
    with pytest.raises(ValueError, match=r"Labels must be.*\(5, 2\).*Received: y of"):
        Bernoulli().log_likelihood(np.zeros(shape), binary)


def test_members():
    assert isinstance(get("categorical"), Categorical)
    assert isinstance(get("bernoulli"), Bernoulli)
    likelihood = Categorical(from_logits=True)
    assert get(likelihood) is likelihood
    config = keras.saving.serialize_keras_object(likelihood)
    assert repr(get(config)) == "Categorical(from_logits=True)"
    with pytest.raises(ValueError, match=r"'categorical'.*Received: .*'poisson'"):
        get("poisson")
    with pytest.raises(ValueError, match=r"`from_logits`.*Received: from_logits=1"):
        Bernoulli(from_logits=1)


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli"])
def test_accuracy_of_nan_is_nan(likelihood):
    likelihood = kv.likelihoods.get(likelihood)
    y, p = np.eye(2), np.array([[1, 0], [np.nan, np.nan]])
    assert likelihood.accuracy(y, np.eye(2)) == 1
    assert np.isnan(likelihood.accuracy(y, p))
    assert np.isnan(likelihood.log_likelihood(y, p)).tolist() == [False, True]
