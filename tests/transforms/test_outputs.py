"""How a model's outputs get their likelihoods."""

import keras
import pytest
from keras import ops

import keras_variance as kv
from keras_variance.likelihoods import Bernoulli, Categorical
from keras_variance.transforms.outputs import resolve

layers = keras.layers
losses = keras.losses


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


@pytest.mark.parametrize(
    "loss, expected",
    [
        (kv.losses.GaussianNLL(0.5), "Gaussian(scale=None)"),
        (kv.losses.GaussianNLL(scale=2.0), "Gaussian(scale=2.0)"),
        (kv.losses.StudentTNLL(3.0), "StudentT(df=3.0, scale=None)"),
        (kv.losses.ExpectedGaussianNLL(), "None"),
    ],
)
def test_losses_of_numbers(loss, expected):
    model = keras.Sequential([keras.Input((4,)), kv.VarianceDense(4)])
    model.compile("sgd", loss)
    assert repr(resolve(model)) == expected
    said = expected if expected.startswith("Gaussian") else "Gaussian(scale=None)"
    assert repr(resolve(model, "gaussian")) == said


def test_an_odd_number_of_outputs():
    model = keras.Sequential([keras.Input((4,)), kv.VarianceDense(3)])
    with pytest.raises(ValueError, match=r"even in number.*Received: output\.shape="):
        resolve(model, "gaussian")
    assert resolve(model, kv.likelihoods.Gaussian(1.0)).scale == 1.0


SOFTMAX = Categorical()
LOGITS = losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize("likelihood", ["auto", "categorical"])
@pytest.mark.parametrize("end", [{"loss": LOGITS}, {"activation": "softmax"}])
@pytest.mark.parametrize(
    "transform", [kv.transforms.average, kv.transforms.propagate_moments]
)
def test_of_predictions_by_a_likelihood(transform, end, likelihood):
    """They are probabilities, of logits too, and not to be taken for logits again."""
    model = transform(ending(**end), likelihood=likelihood)
    x = keras.Input((4,))
    nested = keras.Model(x, layers.Identity()(model(x)))
    for each in (model, nested):
        assert shown(resolve(each)) == CATEGORICAL
        assert shown(resolve(each, "categorical")) == CATEGORICAL


def test_of_averaged_logits():
    model = kv.transforms.average(ending(), likelihood=None)
    assert resolve(model) is None
    assert shown(resolve(model, "categorical")) == CATEGORICAL_LOGITS
    model = kv.transforms.average(ending(), likelihood=Bernoulli(from_logits=True))
    assert shown(resolve(model)) == BERNOULLI


@pytest.mark.filterwarnings("ignore:All weights")
@pytest.mark.parametrize(
    "transform",
    [
        kv.transforms.propagate_mean,
        kv.transforms.zero_mean,
        kv.transforms.ensemble,
        lambda model: kv.transforms.average(model, likelihood=None),
    ],
)
def test_of_what_the_source_returns(transform):
    assert shown(resolve(transform(ending(activation="softmax")))) == CATEGORICAL
    model = transform(ending())
    assert shown(resolve(model, "categorical")) == CATEGORICAL_LOGITS


def test_of_each_output_of_an_average():
    x = keras.Input((4,))
    outputs = {"a": kv.VarianceDense(3)(x), "b": kv.VarianceDense(2, "sigmoid")(x)}
    likelihood = {"a": Categorical(from_logits=True), "b": "auto"}
    model = kv.transforms.average(keras.Model(x, outputs), likelihood=likelihood)
    found = resolve(model)
    assert (shown(found["a"]), shown(found["b"])) == (CATEGORICAL, BERNOULLI)


@pytest.mark.parametrize(
    "make",
    [
        kv.transforms.predictive,
        lambda model: kv.transforms.deep_ensemble([model], likelihood=SOFTMAX),
        lambda model: kv.calibration.ood_score(model, "entropy", likelihood=SOFTMAX),
    ],
)
def test_of_what_is_no_prediction(make):
    """Statistics, and scores, are neither probabilities nor logits."""
    model = make(ending(activation="softmax"))
    found = resolve(model)
    assert set(found.values() if isinstance(found, dict) else [found]) == {None}
    with pytest.raises(
        ValueError, match="does not tell whether its outputs are logits"
    ):
        resolve(model, "categorical")


def test_of_an_average_of_a_subclassed_model():
    model = kv.transforms.average(Subclassed())
    model(ops.ones((2, 4)))
    x = keras.Input((4,))
    nested = keras.Model(x, model(x))
    with pytest.raises(ValueError, match="does not tell"):
        resolve(nested, "categorical")
