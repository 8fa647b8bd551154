"""Likelihoods against brute force, and how a model's outputs get theirs."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import keras_variance as kv
from keras_variance.likelihoods import Bernoulli, Categorical, get, resolve

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
    np.testing.assert_allclose(
        Categorical().entropy(p), stats.entropy(p, axis=-1), rtol=1e-5
    )
    each = [stats.bernoulli(row).entropy().sum() for row in binary]
    np.testing.assert_allclose(Bernoulli().entropy(binary), each, rtol=1e-5)
    certain = np.array([[1.0, 0.0]])
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
        (actual,) = np.asarray(likelihood.expected_entropy(mean[None], variance[None]))
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


def ending(*last, units=3, loss=None, activation=None):
    """A model with these last layers."""
    model = keras.Sequential(
        [keras.Input((4,)), kv.VarianceDense(units, activation), *last]
    )
    if loss is not None:
        model.compile(loss=loss)
    return model


def shown(likelihood):
    return None if likelihood is None else repr(likelihood)


CATEGORICAL = "Categorical(from_logits=False)"
CATEGORICAL_LOGITS = "Categorical(from_logits=True)"
BERNOULLI = "Bernoulli(from_logits=False)"
BERNOULLI_LOGITS = "Bernoulli(from_logits=True)"


def my_loss(y, outputs):
    return ops.mean(ops.square(outputs - y), axis=-1)


@pytest.mark.parametrize(
    "loss, expected",
    [
        ("sparse_categorical_crossentropy", CATEGORICAL),
        ("categorical_crossentropy", CATEGORICAL),
        ("binary_crossentropy", BERNOULLI),
        ("mse", None),
        ("mean_squared_error", None),
        ("mae", None),
        ("huber", None),
        ("poisson", None),
        (losses.sparse_categorical_crossentropy, CATEGORICAL),
        (losses.binary_crossentropy, BERNOULLI),
        (losses.mean_absolute_error, None),
        (losses.CategoricalCrossentropy(from_logits=True), CATEGORICAL_LOGITS),
        (losses.SparseCategoricalCrossentropy(from_logits=True), CATEGORICAL_LOGITS),
        (losses.CategoricalFocalCrossentropy(), CATEGORICAL),
        (losses.BinaryCrossentropy(from_logits=True), BERNOULLI_LOGITS),
        (losses.BinaryFocalCrossentropy(from_logits=True), BERNOULLI_LOGITS),
        (losses.MeanSquaredError(), None),
        (my_loss, None),
        (None, None),
    ],
)
def test_of_the_compiled_loss(loss, expected):
    """Whatever the outputs are: here a linear layer's."""
    assert shown(resolve(ending(loss=loss))) == expected


def test_the_loss_goes_before_the_activation():
    assert resolve(ending(activation="sigmoid", loss="mse")) is None
    loss = losses.CategoricalCrossentropy()
    assert shown(resolve(ending(activation="sigmoid", loss=loss))) == CATEGORICAL
    assert shown(resolve(ending(activation="sigmoid", loss=my_loss))) == BERNOULLI


def softmax_inside():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, "softmax")])
    return [inner]


def softmax_in_a_functional_model():
    x = keras.Input((3,))
    return [keras.Model(x, layers.Softmax()(layers.Dense(3)(x)))]


ENDS = {
    "argument": lambda: [layers.Dense(3, "softmax")],
    "layer": lambda: [layers.Softmax()],
    "activation layer": lambda: [layers.Activation("softmax")],
    "nested": softmax_inside,
    "nested functional": softmax_in_a_functional_model,
    "dropout": lambda: [layers.Softmax(), layers.Dropout(0.5)],
    "identity": lambda: [layers.Softmax(), layers.Identity()],
    "linear": lambda: [layers.Softmax(), layers.Activation("linear")],
    "nested and dropout": lambda: [*softmax_inside(), layers.Dropout(0.1)],
    "reshape": lambda: [
        layers.Reshape((1, 3)),
        layers.Softmax(),
        layers.Reshape((1, 1, 3)),
    ],
    "float32": lambda: [layers.Softmax(), layers.Activation("linear", dtype="float32")],
}


@pytest.mark.parametrize("name", ENDS)
def test_of_a_softmax(name):
    assert shown(resolve(ending(*ENDS[name]()))) == CATEGORICAL


@pytest.mark.parametrize(
    "last",
    [
        lambda: [layers.Activation("sigmoid")],
        lambda: [layers.Dense(2, "sigmoid"), layers.Dropout(0.5)],
        lambda: [layers.Dense(1, "sigmoid"), layers.Reshape(())],
        lambda: [layers.Dense(4, "sigmoid"), layers.Reshape((2, 2, 1))],
        lambda: [layers.TimeDistributed(layers.Dense(1, "sigmoid"))],
    ],
)
def test_of_a_sigmoid(last):
    last = last()
    if isinstance(last[0], layers.TimeDistributed):
        last = [layers.Reshape((3, 1)), *last]
    assert shown(resolve(ending(*last))) == BERNOULLI


def test_of_operators():
    x = keras.Input((4,))
    h = kv.VarianceDense(3)(x)
    for operator, expected in (
        (lambda h: ops.softmax(h), CATEGORICAL),
        (lambda h: ops.nn.softmax(h, axis=1), CATEGORICAL),
        (lambda h: ops.sigmoid(h), BERNOULLI),
        (lambda h: ops.relu(h), None),
        (lambda h: ops.softmax(h) * 2, None),
        (lambda h: layers.Identity()(ops.softmax(h)), CATEGORICAL),
    ):
        assert shown(resolve(keras.Model(x, operator(h)))) == expected


@pytest.mark.parametrize(
    "last",
    [
        lambda: [layers.Dense(3)],
        lambda: [layers.Dense(3, "relu")],
        lambda: [layers.Softmax(), layers.Dense(3)],
        lambda: [layers.Softmax(), layers.Rescaling(2.0)],
        lambda: [layers.Reshape((3, 1)), layers.Softmax(axis=1)],
        lambda: [layers.Softmax(), layers.Reshape((3, 1))],
        lambda: [layers.Dense(6, "softmax"), layers.Reshape((2, 3))],
    ],
)
def test_of_no_likelihood(last):
    """Another activation, and a softmax whose classes are not on the last axis."""
    assert resolve(ending(*last())) is None


def test_names():
    """Whether outputs are logits follows from the loss, then from the activation."""
    softmax, sigmoid = ending(activation="softmax"), ending(activation="sigmoid")
    linear, relu = ending(), ending(activation="relu")
    assert shown(resolve(softmax, "categorical")) == CATEGORICAL
    assert shown(resolve(sigmoid, "bernoulli")) == BERNOULLI
    for model in (linear, relu):
        assert shown(resolve(model, "categorical")) == CATEGORICAL_LOGITS
        assert shown(resolve(model, "bernoulli")) == BERNOULLI_LOGITS
    loss = losses.BinaryCrossentropy(from_logits=True)
    said = ending(activation="sigmoid", loss=loss)
    assert shown(resolve(said, "bernoulli")) == BERNOULLI_LOGITS


class Unknown(layers.Layer):
    def call(self, inputs):
        return ops.softmax(inputs)


def test_a_name_where_nothing_tells():
    model = ending(Unknown())
    assert resolve(model) is None
    message = r"object.*Categorical\(from_logits=True\).*Received: likelihood='cate"
    with pytest.raises(ValueError, match=message):
        resolve(model, "categorical")
    likelihood = Categorical()
    assert resolve(model, likelihood) is likelihood


def test_objects_and_none():
    model = ending(activation="softmax")
    likelihood = Bernoulli()
    assert resolve(model, likelihood) is likelihood
    assert resolve(model, None) is None


def test_one_unit_is_not_categorical():
    for model, likelihood in (
        (ending(units=1), "categorical"),
        (ending(units=1), Categorical()),
        (ending(units=1, loss="sparse_categorical_crossentropy"), "auto"),
    ):
        with pytest.raises(ValueError, match=r"two classes.*'bernoulli'.*Received: "):
            resolve(model, likelihood)


def several(structure):
    x = keras.Input((4,))
    label = layers.Dense(3, "softmax", name="label")(x)
    size = kv.VarianceDense(2, name="size")(x)
    if structure is dict:
        return keras.Model(x, {"label": label, "size": size})
    return keras.Model(x, [label, size])


@pytest.mark.parametrize(
    "loss",
    [
        [
            "sparse_categorical_crossentropy",
            losses.BinaryCrossentropy(from_logits=True),
        ],
        {
            "size": losses.BinaryCrossentropy(from_logits=True),
            "label": losses.sparse_categorical_crossentropy,
        },
    ],
)
@pytest.mark.parametrize("structure", [list, dict])
def test_losses_of_several_outputs(structure, loss):
    model = several(structure)
    if structure is dict and isinstance(loss, list):
        return  # not Keras's structure
    model.compile(loss=loss)
    resolved = resolve(model)
    assert type(resolved) is structure
    assert list(map(shown, keras.tree.flatten(resolved))) == [
        CATEGORICAL,
        BERNOULLI_LOGITS,
    ]


def test_one_loss_for_some_outputs():
    """Of the other the activation tells."""
    model = several(dict)
    model.compile(loss={"size": "mse"})
    resolved = resolve(model)
    assert shown(resolved["label"]) == CATEGORICAL
    assert resolved["size"] is None


@pytest.mark.parametrize("structure", [list, dict])
def test_several_outputs(structure):
    model = several(structure)
    automatic = keras.tree.flatten(resolve(model))
    assert list(map(shown, automatic)) == [CATEGORICAL, None]
    everywhere = keras.tree.flatten(resolve(model, "bernoulli"))
    assert list(map(shown, everywhere)) == [BERNOULLI_LOGITS, BERNOULLI_LOGITS]
    likelihood = ["categorical", None]
    if structure is dict:
        likelihood = {"size": None, "label": "categorical"}
    each = keras.tree.flatten(resolve(model, likelihood))
    assert list(map(shown, each)) == [CATEGORICAL, None]


@pytest.mark.parametrize(
    "structure, likelihood",
    [
        (list, ["categorical"]),
        (list, ["categorical", None, None]),
        (list, {"label": "categorical", "length": None}),
        (dict, ["categorical", None]),
        (dict, {"label": "categorical", "length": None}),
    ],
)
def test_another_structure(structure, likelihood):
    message = r"`likelihood` must have a value for each.*2 outputs.*Received: likeli"
    with pytest.raises(ValueError, match=message):
        resolve(several(structure), likelihood)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = kv.VarianceDense(3, "softmax")

    def call(self, inputs):
        return self.dense(inputs)


def test_subclassed():
    """Its loss tells; else it needs the object."""
    model = Subclassed()
    assert resolve(model) is None
    likelihood = Categorical()
    assert resolve(model, likelihood) is likelihood
    message = r"model '.*' does not tell.*Received: likelihood='categorical'"
    with pytest.raises(ValueError, match=message):
        resolve(model, "categorical")
    model.compile(loss="sparse_categorical_crossentropy")
    assert shown(resolve(model)) == CATEGORICAL
    assert shown(resolve(model, "categorical")) == CATEGORICAL
    structure = resolve(model, {"a": "categorical", "b": None})
    assert shown(structure["a"]) == CATEGORICAL and structure["b"] is None


def test_bad_likelihood():
    for likelihood in ("poisson", 3, Categorical):
        with pytest.raises(ValueError, match=r"`likelihood`.*Received: likelihood="):
            resolve(ending(), likelihood)
    loss = losses.CategoricalCrossentropy(axis=1)
    with pytest.raises(ValueError, match=r"last axis.*Received: loss with axis=1"):
        resolve(ending(layers.Reshape((3, 1)), loss=loss))


@pytest.mark.parametrize("likelihood", kv.likelihoods.MEMBERS)
def test_accuracy_of_nan_is_nan(likelihood):
    likelihood = kv.likelihoods.get(likelihood)
    y, p = np.eye(2), np.array([[1, 0], [np.nan, np.nan]])
    assert likelihood.accuracy(y, np.eye(2)) == 1
    assert np.isnan(likelihood.accuracy(y, p))
    assert np.isnan(likelihood.log_likelihood(y, p)).tolist() == [False, True]
