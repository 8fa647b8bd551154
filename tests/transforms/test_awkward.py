"""Everything, on each of the awkward models."""

from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from keras import tree
from scipy import special, stats

import keras_variance as kv
from keras_variance.transforms import (
    average,
    draw,
    ensemble,
    predictive,
    propagate_mean,
    propagate_moments,
    replace,
    shrink,
    zero_mean,
)
from tests import backends
from tests.transforms import awkward

SAMPLES = 2


class Case(NamedTuple):
    name: str
    model: keras.Model
    x: Any
    y: Any

    @property
    def kinds(self):
        """A flat list: what each output means."""
        kinds = awkward.KINDS.get(self.name, "categorical")
        flat = [kinds[k] for k in sorted(kinds)] if isinstance(kinds, dict) else kinds
        return flat if isinstance(flat, list) else [flat]

    @property
    def tolerance(self):
        half = {"bfloat16": 0.03}
        return half.get(self.name, 0.005 if "float16" in self.name else 2e-5)


MADE = {}


def use_policy(name):
    policy = name if name in awkward.POLICIES else "float32"
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def case(request, rng):
    """One of the models, made once: for tests that leave it as it is."""
    use_policy(request.param)
    if request.param not in MADE:
        MADE[request.param] = Case(request.param, *awkward.new(request.param, rng))
    return MADE[request.param]


@pytest.fixture
def own(request, rng):
    """One of the models, for one test."""
    use_policy(request.param)
    return Case(request.param, *awkward.new(request.param, rng))


each_model = pytest.mark.parametrize("case", awkward.MODELS, indirect=True)
each_own_model = pytest.mark.parametrize("own", awkward.MODELS, indirect=True)


def arrays(outputs):
    """Outputs in their structure, of double precision."""
    numpy = keras.ops.convert_to_numpy
    return tree.map_structure(lambda y: numpy(y).astype("float64"), outputs)


def assert_equal(actual, expected, tolerance):
    tree.assert_same_structure(actual, expected)
    for a, b in zip(tree.flatten(actual), tree.flatten(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance)


def probabilities(case, outputs):
    """What a model's outputs predict: a flat list."""
    if case.name == "binary_logits":
        return [special.expit(outputs)]
    if case.name == "dict_outputs":
        outputs = {**outputs, "flag": special.expit(outputs["flag"])}
    return tree.flatten(outputs)


# Numbers: Var[y | w] / e^s, and SciPy's distribution of a location and a scale
NUMBERS = {
    "gaussian": (1.0, stats.norm),
    "student_t": (5 / 3, lambda m, s: stats.t(5.0, m, s)),
}


def entropy(kind, p):
    if kind == "bernoulli":
        p = np.stack([p, 1 - p])
        return special.entr(p).sum(axis=(0, -1))
    return special.entr(p).sum(axis=-1)


def log_likelihood(kind, y, p):
    """The sum over all labels."""
    if kind in NUMBERS:
        m, s = np.split(p, 2, axis=-1)
        return NUMBERS[kind][1](m, np.exp(s / 2)).logpdf(np.reshape(y, m.shape)).sum()
    if kind == "bernoulli":
        y = np.reshape(y, p.shape)
        return np.log(np.where(y == 1, p, 1 - p)).sum()
    if y.shape != p.shape:
        y = np.eye(p.shape[-1])[y]
    return np.log((y * p).sum(axis=-1)).sum()


def labelled(case, outputs):
    """(kind, labels, probabilities) of each output that has a likelihood."""
    every = zip(
        case.kinds, tree.flatten(case.y), probabilities(case, outputs), strict=True
    )
    return [each for each in every if each[0] is not None]


def nodes(model):
    return [len(layer._inbound_nodes) for layer in model._flatten_layers()]


def paths(model, start=""):
    """Of the layers of a model and of models in it; layers name what is in them."""
    found = []
    for layer in model.layers:
        found.append(start + layer.name)
        if isinstance(layer, keras.Model):
            found += paths(layer, f"{start}{layer.name}/")
    return found


def assert_refused(function):
    """A ValueError that ends by what was received."""
    with pytest.raises(ValueError) as error:
        function()
    assert "Received: " in str(error.value).splitlines()[-1], str(error.value)


def repeated(outputs):
    return tree.map_structure(lambda y: np.repeat(y[:, None], SAMPLES, axis=1), outputs)


def means(statistics, like):
    """The means, in the structure of the model's outputs."""
    if isinstance(like, dict):
        return {key: means(statistics[key], like[key]) for key in like}
    if isinstance(like, list):
        return [means(*each) for each in zip(statistics, like, strict=True)]
    return statistics["mean"]


# What a transformed model returns, and what it has to return for these outputs
INTERPRETERS = {
    "ensemble": (lambda m: ensemble(m, SAMPLES), lambda y, _: y, repeated),
    "integrate_last": (
        lambda m: ensemble(m, SAMPLES, integrate_last=True),
        lambda y, _: y,
        repeated,
    ),
    "predictive": (
        lambda m: predictive(m, SAMPLES, likelihood=None),
        means,
        lambda y: y,
    ),
    "average": (
        lambda m: average(m, SAMPLES, likelihood=None),
        lambda y, _: y,
        lambda y: y,
    ),
    "propagate_mean": (propagate_mean, lambda y, _: y, lambda y: y),
    "propagate_moments": (
        lambda m: propagate_moments(m, likelihood=None),
        lambda y, _: y,
        lambda y: y,
    ),
    "fallback_samples": (
        lambda m: propagate_moments(m, likelihood=None, fallback_samples=4),
        lambda y, _: y,
        lambda y: y,
    ),
}
BUILDERS = {
    "draw": draw,
    "replace": lambda m: replace(draw(m), awkward.OFF, lambda layer: True),
    "shrink": shrink,
}
REFUSED = {
    "subclassed": ("draw", "replace", "shrink"),
    "two_arguments": ("draw", "replace"),
    "block": ("draw", "replace"),
    "mask_reader": ("integrate_last", "propagate_moments"),
    "attention": ("integrate_last", "propagate_moments"),
    "recurrent": ("integrate_last", "propagate_moments"),
}


@pytest.mark.parametrize("name", INTERPRETERS)
@each_model
def test_interpreters_without_noise(case, name):
    """The source's outputs, and no node on any of its layers."""
    make, read, expect = INTERPRETERS[name]
    expected = arrays(case.model(case.x))
    before = nodes(case.model)
    if name in REFUSED.get(case.name, ()):
        assert_refused(lambda: make(case.model))
    else:
        outputs = read(make(case.model)(case.x), expected)
        assert_equal(arrays(outputs), expect(expected), case.tolerance)
    assert nodes(case.model) == before


@pytest.mark.parametrize("name", BUILDERS)
@each_model
def test_builders_without_noise(case, name):
    """The source's outputs, with the same nesting and names."""
    if name in REFUSED.get(case.name, ()):
        assert_refused(lambda: BUILDERS[name](case.model))
        return
    result = BUILDERS[name](case.model)
    expected = arrays(case.model(case.x))
    assert_equal(arrays(result(case.x)), expected, case.tolerance)
    assert paths(result) == paths(case.model)
    assert result.dtype_policy.name == case.model.dtype_policy.name
    if name == "draw":
        assert not kv.layers.variance_layers(result)


@each_model
def test_zero_mean_without_noise(case):
    """The source's outputs with all kernels at 0."""
    before = nodes(case.model)
    if "zero_mean" in REFUSED.get(case.name, ()):
        assert_refused(lambda: zero_mean(case.model))
        return
    outputs = arrays(zero_mean(case.model)(case.x))
    kernels = [
        weight.variable
        for layer in kv.layers.variance_layers(case.model)
        for weight in layer.random_weights
    ]
    values = [keras.ops.copy(kernel) for kernel in kernels]
    for kernel in kernels:
        kernel.assign(np.zeros(kernel.shape))
    expected = arrays(case.model(case.x))
    for kernel, value in zip(kernels, values, strict=True):
        kernel.assign(value)
    assert_equal(outputs, expected, case.tolerance)
    assert nodes(case.model) == before


def flat_predictions(predictions):
    if isinstance(predictions, kv.Prediction):
        return [predictions]
    if isinstance(predictions, dict):
        predictions = [predictions[k] for k in sorted(predictions)]
    return list(predictions)


def check_predictions(case, predictions):
    expected = arrays(case.model(case.x))
    assert isinstance(predictions, kv.Prediction) or (
        type(predictions) is type(expected) and len(predictions) == len(expected)
    )
    each = zip(
        flat_predictions(predictions),
        case.kinds,
        probabilities(case, expected),
        strict=True,
    )
    for prediction, kind, p in each:
        tolerance = case.tolerance
        if kind in NUMBERS:
            p, s = np.split(p, 2, axis=-1)
            aleatoric = NUMBERS[kind][0] * np.exp(s)
            np.testing.assert_allclose(prediction.aleatoric, aleatoric, rtol=1e-4)
            kind = None
        assert prediction.mean.shape == prediction.variance.shape == p.shape
        np.testing.assert_allclose(prediction.mean, p, atol=tolerance, rtol=tolerance)
        np.testing.assert_allclose(prediction.variance, 0, atol=1e-6)
        if kind is None:
            assert prediction.entropy is prediction.mutual_information is None
            continue
        assert prediction.entropy.shape == p.shape[:-1]
        np.testing.assert_allclose(
            prediction.entropy, entropy(kind, p), atol=5 * tolerance
        )
        np.testing.assert_allclose(prediction.mutual_information, 0, atol=1e-4)


@each_model
def test_mc_predict_without_noise(case):
    before = nodes(case.model)
    prediction = kv.mc_predict(case.model, case.x, SAMPLES, verbose=0)
    check_predictions(case, prediction)
    assert nodes(case.model) == before


@each_model
def test_moment_predict_without_noise(case):
    options = {"verbose": 0}
    if "propagate_moments" in REFUSED.get(case.name, ()):
        assert_refused(lambda: kv.moment_predict(case.model, case.x, **options))
        options["fallback_samples"] = 4
    before = nodes(case.model)
    check_predictions(case, kv.moment_predict(case.model, case.x, **options))
    assert nodes(case.model) == before


@each_model
def test_elbo_without_noise(case):
    def elbo():
        return kv.elbo(case.model, case.x, case.y, SAMPLES, verbose=0)

    if not any(case.kinds):
        assert_refused(elbo)
        return
    expected = labelled(case, arrays(case.model(case.x)))
    total = sum(log_likelihood(*each) for each in expected)
    assert elbo().data_term == pytest.approx(total, rel=10 * case.tolerance)
    assert elbo().kl == 0


@each_own_model
def test_metrics_of_an_epoch_without_noise(own):
    callback = kv.callbacks.MCPredict(own.x, own.y, SAMPLES)

    def fit():
        arguments = {"epochs": 1, "verbose": 0, "callbacks": [callback]}
        return own.model.fit(own.x, own.y, **arguments).history

    if backends.BACKEND == "torch" and own.name == "per_pixel":
        pytest.skip("Keras has no gradient of a loss of pixels there")
    if own.name == "regression":
        assert_refused(fit)
        return
    history = fit()
    expected = labelled(own, arrays(own.model(own.x)))
    outputs = getattr(own.model, "output_names", [""])
    if isinstance(own.y, dict):
        outputs = sorted(own.y)  # as Keras names them
    for kind, y, p in expected:
        at = own.kinds.index(kind)
        name = f"{outputs[at]}_" if len(expected) > 1 else ""
        joint = kind == "bernoulli" or kind in NUMBERS
        nll = -log_likelihood(kind, y, p) / (len(y) if joint else y.size)
        if own.name == "one_hot":
            nll *= y.shape[-1]
        for predictor in ("sample", "mean", "ensemble"):
            (value,) = history[f"val_{predictor}_{name}nll"]
            assert value == pytest.approx(nll, rel=10 * own.tolerance)
            measure = "rmse" if kind in NUMBERS else "accuracy"
            (value,) = history[f"val_{predictor}_{name}{measure}"]
            assert value >= 0 and (value <= 1 or kind in NUMBERS)
        assert np.isfinite(history[f"val_zero_mean_{name}nll"]).all()


@each_own_model
def test_pruning(own):
    """What was transformed before is pruned, too."""
    result = ensemble(own.model, SAMPLES)
    report = kv.prune(own.model, 0.5)
    assert report.total.sparsity == pytest.approx(0.5, abs=0.1)
    expected = repeated(arrays(own.model(own.x)))
    assert_equal(arrays(result(own.x)), expected, own.tolerance)


TRANSFORMS = {name: make for name, (make, _, _) in INTERPRETERS.items()} | BUILDERS
TRANSFORMS["zero_mean"] = zero_mean
# Training on JAX gives away the buffers of variables: of all models, there
TRAINED = awkward.MODELS if backends.BACKEND == "jax" else ("nested_names", "one_hot")


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of what is dropped
@pytest.mark.parametrize(
    "model, name",
    [(x, y) for x in TRAINED for y in TRANSFORMS if y not in REFUSED.get(x, ())],
)
def test_what_is_made_may_be_trained(model, name, rng):
    """And the source keeps its variables."""
    use_policy(model)
    source, x, _ = awkward.new(model, rng, posterior="layer_alpha")
    result = TRANSFORMS[name](source)
    targets = tree.map_structure(lambda y: np.zeros(y.shape), result(x))
    result.compile("sgd", tree.map_structure(lambda _: "mse", targets))
    result.fit(x, targets, verbose=0)
    result.predict(x, verbose=0)
    assert all(np.isfinite(each).all() for each in map(np.array, source.variables))
    predictions = tree.flatten(source.predict(x, verbose=0))
    assert all(np.isfinite(each).all() for each in predictions)


@backends.tensorflow_only
@pytest.mark.parametrize(
    "case",
    [
        "nested_names",
        "two_heads",
        "mask_reader",
        "binary_logits",
        "heteroscedastic",
        "recurrent",
    ],
    indirect=True,
)
def test_export(case, tmp_path):
    """Each endpoint answers with the source's predictions."""
    import tensorflow as tf

    folder = kv.export(case.model, tmp_path, samples=SAMPLES)
    served = tf.saved_model.load(folder)
    source = case.model
    x = {
        each.name: tf.constant(value)
        for each, value in zip(source.inputs, tree.flatten(case.x), strict=True)
    }
    each = probabilities(case, arrays(source(case.x)))
    prefixes = [""]
    if len(each) > 1:
        prefixes = [f"{name}_" for name in source.output_names]
    has_moments = "propagate_moments" not in REFUSED.get(case.name, ())
    assert ("moments" in served.signatures) == has_moments
    for name in {"serving_default", "moments"} & {*served.signatures}:
        answer = served.signatures[name](**x)
        for prefix, p, kind in zip(prefixes, each, case.kinds, strict=True):
            aleatoric = p * (1 - p)
            if kind in NUMBERS:
                p, s = np.split(p, 2, axis=-1)
                aleatoric, kind = NUMBERS[kind][0] * np.exp(s), None
                assert set(answer) == {"mean", "variance", "aleatoric"}
            np.testing.assert_allclose(answer[f"{prefix}mean"], p, atol=1e-5)
            if f"{prefix}aleatoric" in answer:
                actual = answer[f"{prefix}aleatoric"]
                np.testing.assert_allclose(actual, aleatoric, atol=1e-5)
            assert (f"{prefix}entropy" in answer) == (kind is not None)


@pytest.mark.parametrize("training", [True, False])
def test_nested_training(training, rng):
    """What a nested model was called with holds in what is made of the model."""
    inner = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    x = keras.Input((4,))
    h = inner(x, training=training)
    model = keras.Model(x, kv.VarianceDense(3, posterior=awkward.OFF)(h))
    data = 5 + awkward.features(rng, 4)
    expected = arrays(model(data))
    results = [propagate_mean(model), propagate_moments(model)]
    results += [make(model) for make in BUILDERS.values()]
    for result in results:
        assert_equal(arrays(result(data)), expected, 1e-4)
    assert_equal(arrays(ensemble(model, SAMPLES)(data)), repeated(expected), 1e-4)


class Sum(keras.layers.Layer):
    def call(self, first, second=None):
        return first if second is None else first + second


def test_optional_input(rng):
    """None stays None."""
    a, b = keras.Input((4,)), keras.Input((4,), optional=True)
    model = keras.Model([a, b], kv.VarianceDense(3, posterior=awkward.OFF)(Sum()(a, b)))
    for x in ([awkward.features(rng, 4), None], [awkward.features(rng, 4)] * 2):
        expected = arrays(model(x))
        assert_equal(arrays(ensemble(model, SAMPLES)(x)), repeated(expected), 2e-5)
        for make in (propagate_mean, propagate_moments, *BUILDERS.values()):
            assert_equal(arrays(make(model)(x)), expected, 2e-5)


def test_lambda(rng):
    """A layer that Keras does not deserialize without being asked to."""
    twice = keras.layers.Lambda(lambda x: 2 * x)
    model = keras.Sequential(
        [keras.Input((4,)), kv.VarianceDense(3, posterior=awkward.OFF), twice]
    )
    x = awkward.features(rng, 4)
    expected = arrays(model(x))
    for make in (propagate_mean, *BUILDERS.values()):
        assert_equal(arrays(make(model)(x)), expected, 2e-5)
