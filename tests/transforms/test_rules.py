"""Each rule against 10⁵ draws of its input, through the layer itself."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_variance as kv
from keras_variance import _keras
from keras_variance.transforms.moments import Moments, find_rule, moment_rule, supported
from keras_variance.transforms.moments.dependence import DependenceWarning
from keras_variance.transforms.moments.propagate import propagate as propagate_call
from keras_variance.transforms.walk import operations, walk
from tests.layers import cases
from tests.statistics import threshold

DRAWS = 100_000
VECTOR, IMAGE = (7,), (5, 6, 3)
ACTIVATIONS = {
    # Stated error of the mean and the standard deviation for standard deviations
    # up to 2, relative to it where that's above 1
    **dict.fromkeys(("relu", "leaky_relu", "linear", "exponential"), 0),
    **dict.fromkeys(("sigmoid", "tanh"), 1e-6),
    **dict.fromkeys(("gelu", "silu", "mish", "softplus", "squareplus"), 1e-3),
    **dict.fromkeys(("elu", "selu", "celu", "hard_silu"), 4e-3),
    **dict.fromkeys(("hard_sigmoid", "hard_tanh", "softsign", "relu6"), 0.01),
    "log_sigmoid": 1e-3,
}
LAYERS = {
    # name: (layer, shape of an example, stated error)
    **{
        f"activation {name}": (lambda n=name: layers.Activation(n), VECTOR, error)
        for name, error in ACTIVATIONS.items()
    },
    "relu": (layers.ReLU, VECTOR, 0),
    "relu with slope": (lambda: layers.ReLU(negative_slope=0.3), VECTOR, 0),
    "relu with cap": (lambda: layers.ReLU(2.0), VECTOR, 0.01),
    "relu with threshold": (lambda: layers.ReLU(threshold=0.5), VECTOR, 0.05),
    "leaky relu": (layers.LeakyReLU, VECTOR, 0),
    "elu": (layers.ELU, VECTOR, 4e-3),
    "prelu": (lambda: layers.PReLU("random_normal", shared_axes=[1]), (4, 3), 0),
    "dense with activation": (lambda: layers.Dense(3, "relu"), VECTOR, 0),
    "rescaling": (lambda: layers.Rescaling(0.5, offset=2.0), VECTOR, 0),
    "batch norm": (layers.BatchNormalization, IMAGE, 0),
    "batch norm, axis 1": (lambda: layers.BatchNormalization(axis=1), IMAGE, 0),
    "batch norm, bare": (
        lambda: layers.BatchNormalization(center=False, scale=False),
        VECTOR,
        0,
    ),
    "layer norm": (layers.LayerNormalization, (40,), 0.03),
    "layer norm, two axes": (
        lambda: layers.LayerNormalization(axis=[-2, -1], center=False),
        (2, 8, 5),
        0.03,
    ),
    "rms norm": (layers.RMSNormalization, (40,), 0.03),
    "group norm": (lambda: layers.GroupNormalization(3), (5, 6, 6), 0.03),
    "instance norm": (
        lambda: layers.GroupNormalization(-1, axis=1, scale=False),
        (2, 6, 6),
        0.03,
    ),
    "separable conv": (
        lambda: layers.SeparableConv2D(4, (2, 3), 2, depth_multiplier=2),
        IMAGE,
        0,
    ),
    "separable conv 1d": (
        lambda: layers.SeparableConv1D(2, 3, dilation_rate=2, padding="same"),
        (5, 2),
        0,
    ),
    "repeat": (lambda: layers.RepeatVector(2), VECTOR, 0),
    "upsampling": (lambda: layers.UpSampling2D((2, 1)), IMAGE, 0),
    "upsampling 1d": (layers.UpSampling1D, (5, 2), 0),
    "upsampling 3d": (layers.UpSampling3D, (2, 1, 2, 1), 0),
    "dropout": (lambda: layers.Dropout(0.3), VECTOR, 0),
    "spatial dropout": (lambda: layers.SpatialDropout2D(0.3), IMAGE, 0),
    "gaussian noise": (lambda: layers.GaussianNoise(0.3), VECTOR, 0),
    "gaussian dropout": (lambda: layers.GaussianDropout(0.3), VECTOR, 0),
    "alpha dropout": (lambda: layers.AlphaDropout(0.3), VECTOR, 0),
    "activity regularization": (layers.ActivityRegularization, VECTOR, 0),
    "identity": (layers.Identity, VECTOR, 0),
    "flatten": (layers.Flatten, IMAGE, 0),
    "reshape": (lambda: layers.Reshape((3, -1)), IMAGE, 0),
    "permute": (lambda: layers.Permute((2, 1, 3)), IMAGE, 0),
    "cropping": (lambda: layers.Cropping2D(((1, 2), (0, 1))), IMAGE, 0),
    "zero padding": (lambda: layers.ZeroPadding2D(((1, 0), (2, 1))), IMAGE, 0),
    "average pooling": (lambda: layers.AveragePooling2D((2, 3), 2), IMAGE, 0),
    "average pooling, same": (
        lambda: layers.AveragePooling2D(2, padding="same"),
        IMAGE,
        0,
    ),
    "average pooling 1d": (lambda: layers.AveragePooling1D(2), (5, 2), 0),
    "average pooling 3d": (lambda: layers.AveragePooling3D(2), (2, 4, 3, 1), 0),
    "global average": (layers.GlobalAveragePooling2D, IMAGE, 0),
    "global average 1d": (
        lambda: layers.GlobalAveragePooling1D(keepdims=True),
        (5, 2),
        0,
    ),
    "max pooling of pairs": (lambda: layers.MaxPooling2D((1, 2)), IMAGE, 0),
    "max pooling of pairs, same": (
        lambda: layers.MaxPooling1D(2, 2, "same"),
        (5, 2),
        0,
    ),
    "max pooling": (lambda: layers.MaxPooling2D(2, 1), IMAGE, 0.15),
    "max pooling 3d": (
        lambda: layers.MaxPooling3D(2, padding="same"),
        (2, 3, 2, 1),
        0.15,
    ),
    "global max": (lambda: layers.GlobalMaxPooling1D(keepdims=True), (9, 2), 0.01),
    "global max 2d": (layers.GlobalMaxPooling2D, (4, 5, 3), 0.01),
}
MERGES = {
    "add": layers.Add,
    "subtract": layers.Subtract,
    "average": layers.Average,
    "multiply": layers.Multiply,
    "maximum": layers.Maximum,
    "minimum": layers.Minimum,
    "concatenate": layers.Concatenate,
    "dot": lambda: layers.Dot(axes=2),
}


def gaussian(shape, rng, draws=DRAWS):
    """`Moments` of one example, and draws of it."""
    mean, stddev = rng.normal(size=shape) * 1.5, rng.uniform(0.1, 2, size=shape)
    mean, variance = (x.astype("float32") for x in (mean, stddev**2))
    x = mean + np.sqrt(variance) * rng.normal(size=(draws, *shape))
    tensors = (keras.ops.convert_to_tensor(each[None]) for each in (mean, variance))
    return Moments(*tensors), x.astype("float32")


def propagate(layer, x):
    """A layer's rule and that of its activation."""
    x = find_rule(layer)(layer, x)
    activation = getattr(layer, "activation", None)
    return x if activation is None else find_rule(activation)(activation, x)


def assert_has_moments(draws, x, bias):
    """Within chance and `bias` · max(1, stddev) of mean and standard deviation."""
    draws = np.asarray(draws, "float64")
    mean, variance = (np.asarray(each[0], "float64") for each in (x.mean, x.variance))
    assert draws[0].shape == mean.shape == variance.shape
    limit, n = threshold(2 * mean.size), len(draws)
    centred = draws - draws.mean(axis=0)
    stddev = centred.std(axis=0)
    tolerance = (bias + 3e-6) * np.maximum(np.maximum(1, stddev), abs(mean))
    error = np.abs(draws.mean(axis=0) - mean) - tolerance
    assert (error <= limit * stddev / np.sqrt(n)).all(), error.max()
    # The standard error of a standard deviation, from that of the variance
    spread = np.sqrt(np.square(centred).var(axis=0) / n) / (2 * stddev + 1e-9)
    error = np.abs(stddev - np.sqrt(variance)) - tolerance
    assert (error <= limit * spread).all(), error.max()


def randomize(layer, rng):
    for weight in layer.weights:
        positive = "variance" in weight.name
        value = rng.uniform(0.5, 2, weight.shape) if positive else None
        if weight.dtype == "float32":
            weight.assign(rng.normal(size=weight.shape) if value is None else value)


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, rng):
    make, shape, bias = LAYERS[name]
    layer = make()
    x, draws = gaussian(shape, rng)
    layer.build((None, *shape))
    randomize(layer, rng)
    assert_has_moments(layer(draws), propagate(layer, x), bias)


WEIGHTS = np.arange(-6.0, 6.0, dtype="float32").reshape(6, 2)
OPERATORS = {
    # name: (function, stated error)
    "relu": (ops.relu, 0),
    "sigmoid": (ops.sigmoid, 1e-6),
    "tanh": (ops.tanh, 1e-6),
    "exp": (lambda x: ops.exp(x), 0),
    "negative": (lambda x: -x, 0),
    "scaled": (lambda x: 1 - 2 * x / 4, 0),
    "divide": (lambda x: ops.divide(x, 4) + 1, 0),
    "reshape": (lambda x: ops.reshape(x, (-1, 3, 8)), 0),
    "slice": (lambda x: x[:, 1:, ::2], 0),
    "pick": (lambda x: x[:, 0], 0),
    "new axis": (lambda x: x[..., None], 0),
    "expand": (lambda x: ops.expand_dims(x, 1), 0),
    "squeeze": (lambda x: ops.squeeze(x[:, :1], 1), 0),
    "transpose": (lambda x: ops.transpose(x, (0, 2, 1)), 0),
    "mean": (lambda x: ops.mean(x, axis=1), 0),
    "mean of all": (lambda x: ops.mean(x, axis=(1, -1), keepdims=True), 0),
    "sum": (lambda x: ops.sum(x, axis=2), 0),
    "concatenate": (lambda x: ops.concatenate([x[:, 1:], x[:, :1] / 2], 1), 0),
    # Of two random values: see test_estimated.py
    "einsum": (lambda x: ops.einsum("bij,jk->bki", x, WEIGHTS), 0),
    "matmul": (lambda x: ops.matmul(x, WEIGHTS), 0),
    # Exact, but what exceeds the constant once in 10⁵ draws is not drawn
    "maximum": (lambda x: ops.maximum(x, 0.5), 1e-3),
    "minimum": (lambda x: ops.minimum(x, 0.5), 1e-3),
} | {
    name: (getattr(ops, name), 0.01)
    for name in (
        *("absolute", "arctan", "celu", "cos", "elu", "erf", "gelu", "hard_sigmoid"),
        *("hard_silu", "hard_tanh", "log_sigmoid", "relu6", "selu", "silu", "sin"),
        *("softplus", "softsign", "square", "squareplus"),
    )
}


def operators(function, shape):
    """A model of the operators that a function is made of."""
    x = keras.Input(shape)
    return keras.Model(x, function(x))


@pytest.mark.parametrize("name", OPERATORS)
def test_operator(name, rng):
    function, bias = OPERATORS[name]
    x, draws = gaussian((4, 6), rng)
    (x,) = (
        Moments(each.mean, each.variance / 4) for each in [x]
    )  # exp has heavy tails
    draws = (draws + np.asarray(x.mean)) / 2

    def call(node, args, kwargs):
        return propagate_call(node.operation, args, kwargs, None)

    result = walk(operators(function, (4, 6)), x, call)
    assert_has_moments(function(draws), result, bias)


def test_every_operator_is_tested():
    used = {
        type(operation)
        for function, _ in OPERATORS.values()
        for operation in operations(operators(function, (4, 6)))
    }
    assert used >= {*_keras.ELEMENTWISE}
    rules = kv.moments.rules.RULES
    private = {
        each
        for each in rules
        if each.__module__.startswith("keras.src.ops") and isinstance(each, type)
    }
    assert private - {_keras.DotProductAttention} <= used


def test_divisors_are_known(rng):
    x, _ = gaussian((3,), rng, draws=1)
    with pytest.raises(ValueError, match=r"divides by random values.*Received: "):
        find_rule(_keras.Divide())(_keras.Divide(), [x, x])


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "exponential"])
def test_quadrature_is_near_the_closed_forms(name, rng):
    """The rule of any function of each entry."""
    mean, stddev = rng.normal(size=(1, 500)) * 2, rng.uniform(0, 1, size=(1, 500))
    x = Moments(*(keras.ops.array(a.astype("float32")) for a in (mean, stddev**2)))
    function = getattr(keras.activations, name)
    exact, near = find_rule(function)(function, x), kv.moments.quadrature(function, x)
    scale = np.maximum(np.maximum(np.sqrt(exact.variance), 1), np.abs(exact.mean))
    assert (np.abs(exact.mean - near.mean) < 4e-3 * scale).all()
    error = np.abs(np.sqrt(exact.variance) - np.sqrt(near.variance))
    assert (error < 4e-3 * scale).all()


def test_copies_are_dependent(rng):
    model = keras.Sequential(
        [
            keras.Input((3, 2)),
            kv.VarianceDense(2),
            layers.UpSampling1D(2, name="twice"),
            layers.GlobalAveragePooling1D(),
        ]
    )
    with pytest.warns(DependenceWarning, match="'twice' has copies of"):
        kv.transforms.propagate_moments(model)
    layer = layers.UpSampling2D(2, interpolation="bilinear", name="smooth")
    x, _ = gaussian(IMAGE, rng, draws=1)
    with pytest.raises(ValueError, match=r"'smooth' .*nearest.*Received: "):
        find_rule(layer)(layer, x)


@pytest.mark.parametrize("name", MERGES)
def test_merge(name, rng):
    """Of two random inputs, and of a random and a known one."""
    layer = MERGES[name]()
    (x, x_draws), (y, y_draws) = gaussian((3, 2), rng), gaussian((3, 2), rng)
    assert_has_moments(layer([x_draws, y_draws]), propagate(layer, [x, y]), 0)
    known = Moments(y.mean)
    y_draws = np.broadcast_to(y.mean, y_draws.shape)
    assert_has_moments(layer([x_draws, y_draws]), propagate(layer, [x, known]), 0)


@pytest.mark.parametrize("name", sorted({*cases.CASES} - {"embedding"}))
def test_stock_linear_layer(name, rng):
    case = cases.CASES[name]
    layer = case.stock(**case.arguments)
    x, draws = gaussian(case.input_shape, rng)
    layer.build(draws.shape)
    randomize(layer, rng)
    assert_has_moments(layer(draws), propagate(layer, x), 0)


@pytest.mark.parametrize("posterior", cases.POSTERIORS)
@pytest.mark.parametrize("name", cases.CASES)
def test_variance_layer(name, posterior, rng):
    """Of random and of known inputs. Noise is independent over rows."""
    case = cases.CASES[name]
    layer = cases.build(case, rng, posterior=posterior)
    if case.tokens:
        x = Moments.of(cases.inputs(case, rng, rows=1))
    else:
        x, draws = gaussian(case.input_shape, rng)
        assert_has_moments(layer(draws), propagate(layer, x), 0)
    known = np.broadcast_to(x.mean, (DRAWS, *case.input_shape))
    assert_has_moments(layer(known), propagate(layer, Moments(x.mean)), 0)


def test_tokens_must_be_known(rng):
    layer = kv.VarianceEmbedding(4, 3, name="words")
    x, _ = gaussian((5,), rng, draws=1)
    with pytest.raises(ValueError, match=r"'words' needs tokens .*Received: "):
        find_rule(layer)(layer, x)


@pytest.mark.parametrize("noise", kv.noises.MEMBERS)
def test_noises(noise, rng):
    """Against brute force: a kernel for each row."""
    layer = kv.VarianceDense(3, posterior="additive", noise=noise)
    layer.build((None, 4))
    randomize(layer, rng)
    x, draws = gaussian((4,), rng)
    mean, scale = (np.asarray(k) for k in (layer.kernel_mean, layer.kernel_scale))
    noise = layer.noise.sample((DRAWS, 4, 3), "float32", kv.random.SeedGenerator(0))
    kernels = mean + scale * np.asarray(noise)
    outputs = np.einsum("ni,nij->nj", draws, kernels) + np.asarray(layer.bias)
    assert_has_moments(outputs, propagate(layer, x), 0)


@pytest.mark.parametrize("stochastic", [False, True])
def test_covariance(stochastic, rng):
    """Of the outputs of a dense layer."""
    dense = kv.VarianceDense if stochastic else layers.Dense
    layer = dense(3, **({"posterior": "additive"} if stochastic else {}))
    x, draws = gaussian((5,), rng)
    layer.build(draws.shape)
    randomize(layer, rng)
    covariance = np.asarray(propagate(layer, x).covariance.matrix())[0]
    outputs = np.asarray(layer(draws), "float64")
    outputs -= outputs.mean(axis=0)
    products = outputs[:, :, None] * outputs[:, None, :]
    error = products.std(axis=0) / np.sqrt(DRAWS)
    z = (products.mean(axis=0) - covariance) / error
    assert np.abs(z).max() < threshold(z.size)


def test_max_pooling_looks_behind_a_relu(rng):
    """A maximum of Gaussians is nearer to Gaussian than they are when rectified."""
    pool, relu = layers.MaxPooling1D(2), layers.ReLU()
    x, draws = gaussian((40, 2), rng)
    rectified = propagate(relu, x)
    blind = Moments(rectified.mean, rectified.variance)
    draws = np.asarray(pool(relu(draws)))

    def errors(x):
        stddev = np.sqrt(propagate(pool, x).variance)[0]
        return np.abs(stddev - draws.std(axis=0))

    assert errors(rectified).mean() < errors(blind).mean() / 2
    # A decreasing function does not commute with the maximum
    falling = layers.PReLU(keras.initializers.Constant(-0.5))
    falling.build((None, 40, 2))
    assert propagate(falling, x).source is None


def test_global_max_of_one(rng):
    """The entry itself: what the trapezoid rule adds to its moments."""
    x, _ = gaussian((1, 50), rng, draws=1)
    y = propagate(layers.GlobalMaxPooling1D(), x)
    np.testing.assert_allclose(y.mean, x.mean[:, 0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(y.variance, x.variance[:, 0], rtol=1e-3)


@pytest.mark.parametrize(
    "kind",
    [
        layers.AlphaDropout,
        layers.Dropout,
        layers.GaussianDropout,
        layers.GaussianNoise,
        layers.SpatialDropout1D,
    ],
)
def test_noise(kind, rng):
    layer = kind(0.3)
    x, draws = gaussian((4, 2), rng)
    rule = kv.moments.linear.noise
    assert_has_moments(layer(draws, training=True), rule(layer, x), 0)
    known = np.broadcast_to(x.mean, draws.shape)
    outputs = layer(known, training=True)
    assert_has_moments(outputs, rule(layer, Moments(x.mean)), 0)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh", "gelu"])
@pytest.mark.parametrize("stddev", [0.0, 1e-12, 1e-4, 1e4])
def test_extreme_variances(name, stddev):
    """A variance of 0 gives the function's value; nothing becomes NaN."""
    function = getattr(keras.activations, name)
    mean = np.array([[-1e4, -30, -1, 0, 1, 30, 1e4]], "float32")
    variance = np.full_like(mean, stddev**2)
    moments = Moments(*map(keras.ops.convert_to_tensor, (mean, variance)))
    x = find_rule(function)(function, moments)
    assert np.isfinite(x.mean).all() and np.isfinite(x.variance).all()
    assert (np.asarray(x.variance) >= 0).all()
    if stddev < 1:
        value = np.asarray(function(keras.ops.convert_to_tensor(mean)))
        np.testing.assert_allclose(x.mean, value, rtol=1e-3, atol=1e-4)


def test_every_rule_is_tested():
    """Here, by name of the layer or function."""
    tested = {type(make()).__name__ for make, _, _ in LAYERS.values()}
    tested |= {type(make()).__name__ for make in MERGES.values()} | {*ACTIVATIONS}
    tested |= {case.stock.__name__ for case in cases.CASES.values()}
    # As the two- and three-dimensional ones
    alike = {name[:-2] for name in tested if name.endswith("D")}
    rules = kv.moments.rules.RULES
    public = [each for each in rules if not each.__module__.startswith("keras.src.ops")]
    names = {each.__name__ for each in public if each.__module__.startswith("keras.")}
    assert len(names) > 60  # others may be those of examples in docstrings
    assert not {name for name in names if name[:-2] not in alike} - tested


class Double(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


class Triple(Double):
    def call(self, inputs):
        return 3 * inputs


class NamedDouble(Double):
    """Does what its base does."""


def test_a_users_rule(monkeypatch):
    monkeypatch.setattr(kv.moments.rules, "RULES", dict(kv.moments.rules.RULES))
    with pytest.raises(ValueError, match=r"'mine' of class .*Double has no rule"):
        find_rule(Double(name="mine"))

    @moment_rule(Double)
    def double(layer, x):
        return Moments(2 * x.mean, 4 * x.variance)

    assert find_rule(Double()) is double
    assert find_rule(NamedDouble()) is double
    assert "Double" in supported()
    with pytest.raises(ValueError, match=r"mc_predict.*moment_rule.*Received: "):
        find_rule(Triple())
