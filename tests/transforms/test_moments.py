"""`propagate_moments` against ensembles, and as a Keras model."""

import keras
import numpy as np
import pytest
from scipy import special

import keras_variance as kv
from keras_variance.transforms import ensemble, propagate_moments
from keras_variance.transforms.moments import heads
from tests import backends
from tests.statistics import assert_moments, threshold
from tests.transforms.models import WALKED, new
from tests.transforms.test_ensemble import many

SAMPLES = 2000


def moments(*arrays):
    return kv.moments.Moments(*map(keras.ops.convert_to_tensor, arrays))


def statistics(model, x, **arguments):
    result = propagate_moments(model, statistics=True, **arguments)
    return result.predict(x, verbose=0)


def draws_of(model, x, samples=SAMPLES):
    """(samples, rows, …) of each output."""
    outputs = ensemble(model, samples, seed=1).predict(x, verbose=0)
    return keras.tree.map_structure(lambda y: np.moveaxis(y, 1, 0), outputs)


@pytest.mark.parametrize("posterior", ["zero_mean", "layer_alpha"])
@pytest.mark.parametrize("name", ["sequential", "residual", "multiple"])
def test_exact_where_the_assumptions_hold(name, posterior, rng):
    """One variance layer, a known input, nothing correlated merged behind it."""
    model, x = new(name, rng, posterior=posterior)
    if name == "residual":
        # Half of what its last layer reads is known, half is independent
        assert isinstance(model.layers[-1], keras.layers.Dense)
    y, draws = statistics(model, x), draws_of(model, x)
    if name == "multiple":
        expected = model.predict(x, verbose=0)["fixed"]
        np.testing.assert_allclose(y["fixed"]["mean"], expected, rtol=1e-5)
        assert not y["fixed"]["variance"].any()
        y, draws = y["random"], draws["random"]
    assert_moments(draws, y["mean"], y["variance"])


@pytest.mark.parametrize("name", WALKED)
def test_near_where_they_do_not(name, rng):
    """Within a tenth of the standard deviations, which are within a quarter.

    Where correlated activations are added, in the nested model, within a half
    and a factor of two.
    """
    model, x = new(name, rng, posterior="layer_alpha")
    y, draws = statistics(model, x), draws_of(model, x)
    if name == "multiple":
        y, draws = y["random"], draws["random"]
    stddev = draws.std(axis=0)
    error = threshold(draws[0].size) / np.sqrt(SAMPLES)
    bias, ratio = (0.5, 1.0) if name == "nested" else (0.1, 0.25)
    assert (np.abs(y["mean"] - draws.mean(axis=0)) / stddev).max() < bias + error
    assert np.abs(np.sqrt(y["variance"]) / stddev - 1).max() < ratio + error


def test_the_prefix_stays_as_it_is(rng):
    """A layer without a rule is no trouble before the first variance layer."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.UnitNormalization(),
            keras.Sequential([keras.layers.Dense(5, "softmax")]),
            kv.VarianceDense(4, posterior="layer_alpha"),
        ]
    )
    x = rng.normal(size=(3, 6)).astype("float32")
    expected = kv.transforms.propagate_mean(model).predict(x, verbose=0)
    result = propagate_moments(model).predict(x, verbose=0)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_a_deterministic_model_behind_is_walked(rng):
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu")])
    model = keras.Sequential([keras.Input((5,)), kv.VarianceDense(4), inner])
    x = rng.normal(size=(3, 5)).astype("float32")
    y, draws = statistics(model, x), draws_of(model, x)
    error = threshold(9) * draws.std(axis=0) / np.sqrt(SAMPLES)
    # The inner layer's inputs are independent Gaussians: its ReLU is exact
    assert (np.abs(y["mean"] - draws.mean(axis=0)) < error).all()


def test_dropout_noise(rng):
    """As training=True draws it; else dropout does nothing."""
    x = rng.normal(size=(3, 6)).astype("float32")
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dropout(0.4), kv.VarianceDense(2)]
    )
    y = statistics(model, x, dropout=True)
    draws = many(lambda x: model(x, training=True), x, SAMPLES)
    centred = draws - draws.mean(axis=0)
    kurtosis = (centred**4).mean(axis=0) / (centred**2).mean(axis=0) ** 2
    assert_moments(draws, y["mean"], y["variance"], kurtosis)
    assert (statistics(model, x)["variance"] < y["variance"]).all()


@pytest.mark.parametrize("correlated", [True, False])
def test_quasi_monte_carlo(correlated, rng):
    """Probabilities, variances and expected entropy, against 10⁵ draws."""
    units, rows = 10, 5
    kernel = rng.normal(size=(30, units)) / 5
    m, v = rng.normal(size=(rows, 30)), rng.uniform(0.1, 1, size=(rows, 30))
    layer = keras.layers.Dense(units)
    layer.build((None, 30))
    layer.kernel.assign(kernel)
    x = kv.moments.Moments(*(a.astype("float32") for a in (m, v)))
    logits = kv.moments.find_rule(layer)(layer, x)
    if not correlated:
        logits = kv.moments.Moments(logits.mean, logits.variance)
        kernel_of_row = np.sqrt(np.asarray(logits.variance))[:, None] * np.eye(units)
    p = heads.QuasiMonteCarlo()(None, logits)
    for row in range(rows):
        z = rng.normal(size=(100_000, units if not correlated else 30))
        if correlated:
            draws = (m[row] + np.sqrt(v[row]) * z) @ kernel
        else:
            draws = np.asarray(logits.mean)[row] + z @ kernel_of_row[row]
        draws = special.softmax(draws, axis=-1)
        entropy = special.entr(draws).sum(axis=-1).mean()
        assert np.abs(p.mean[row] - draws.mean(axis=0)).sum() / 2 < 0.01
        variance = draws.var(axis=0)
        np.testing.assert_allclose(p.variance[row], variance, atol=0.1 * variance.max())
        assert abs(p.entropy()[row] - entropy) < 0.03


def test_many_classes(rng):
    """The covariance is not computed: near 10⁵ draws nonetheless, variances exactly."""
    inputs, units, rows = 60, 100, 3
    layer = keras.layers.Dense(units)
    layer.build((None, inputs))
    kernel = rng.normal(size=(inputs, units)).astype("float32") / 4
    layer.kernel.assign(kernel)
    m, v = rng.normal(size=(rows, inputs)), rng.uniform(0.1, 1, size=(rows, inputs))
    x = kv.moments.Moments(*(a.astype("float32") for a in (m, v)))
    logits = kv.moments.find_rule(layer)(layer, x)
    points = rng.normal(size=(16, inputs)).astype("float32")
    deviations = logits.covariance.deviations(points)
    np.testing.assert_allclose(
        np.mean(np.square(deviations), axis=1), logits.variance, rtol=1e-4
    )
    p = heads.QuasiMonteCarlo()(None, logits)
    z = rng.normal(size=(20_000, 1, inputs))
    draws = special.softmax((m + np.sqrt(v) * z) @ kernel, axis=-1)
    distance = np.abs(p.mean - draws.mean(axis=0)).sum(axis=-1) / 2
    few = special.softmax((m + np.sqrt(v) * z[:20]) @ kernel, axis=-1).mean(axis=0)
    assert (distance < np.abs(few - draws.mean(axis=0)).sum(axis=-1) / 2).all()
    entropy = special.entr(draws).sum(axis=-1).mean(axis=0)
    np.testing.assert_allclose(p.entropy(), entropy, atol=0.15)


def test_few_points_for_many_classes(rng):
    """A pair of points at least."""
    layer = keras.layers.Dense(7)
    layer.build((None, 5))
    x = moments(*np.abs(rng.normal(size=(2, 3, 5))).astype("float32"))
    p = heads.QuasiMonteCarlo(4)(None, kv.moments.find_rule(layer)(layer, x))
    np.testing.assert_allclose(np.sum(np.asarray(p.mean), axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e6])
def test_singular_covariance(scale, rng):
    """More classes than inputs, or no variance at all: a row is never NaN."""
    layer = keras.layers.Dense(100)
    layer.build((None, 5))
    x = rng.normal(size=(2, 20, 5)).astype("float32")
    logits = kv.moments.find_rule(layer)(layer, moments(x[0], scale * x[1] ** 2))
    p = heads.QuasiMonteCarlo()(None, logits)
    np.testing.assert_allclose(np.sum(np.asarray(p.mean), axis=-1), 1, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 10, 32])
def test_unrolled_cholesky(size, rng):
    """Against NumPy's; and of a matrix of rank 1, whose small pivots are rounded."""
    half = rng.normal(size=(2, 3, size, size + 5))
    smallest = np.full((2, 3, 1, 1), 1e-5, "float32")

    def factor(matrix):
        return np.asarray(heads.unrolled_cholesky(keras.ops.array(matrix), smallest))

    matrix = (half @ half.swapaxes(-1, -2)).astype("float32")
    expected = np.linalg.cholesky(matrix.astype("float64"))
    np.testing.assert_allclose(factor(matrix), expected, rtol=1e-4, atol=1e-4)
    line = half[..., :1] / np.abs(half[..., :1]).max(axis=-2, keepdims=True)
    matrix = line @ line.swapaxes(-1, -2) + 1e-5 * np.eye(size)
    lower = factor(matrix.astype("float32"))
    np.testing.assert_array_equal(lower, np.tril(lower))
    np.testing.assert_allclose(lower @ lower.swapaxes(-1, -2), matrix, atol=1e-6)


def test_points():
    """Mean 0 by their negatives, the identity as covariance, and evenly spread."""
    points = heads.normal_points(32, 10)
    np.testing.assert_allclose(points.T @ points / 32, np.eye(10), atol=1e-12)
    many = heads.normal_points(2000, 3)
    for share in (0.1, 0.5, 0.9):
        below = (many < special.ndtri(share)).mean(axis=0)
        np.testing.assert_allclose(below, share, atol=0.01)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradient_of_the_head(jit_compile, rng):
    """Against differences; compiled too, where logits are computed more than once."""
    values = [rng.normal(size=(2, 5, 3)), rng.random((2, 5, 3))]
    variables = [keras.Variable(each.astype("float32")) for each in values]
    head = heads.QuasiMonteCarlo()

    def probability():
        mean, variance = (keras.ops.mean(each, axis=1) for each in variables)
        p = head(None, kv.moments.Moments(mean, variance))
        return keras.ops.sum(p.mean[:, 0])

    _, slopes = backends.gradients(probability, variables, jit_compile)
    for variable, value, slope in zip(variables, values, slopes, strict=True):
        direction = rng.normal(size=value.shape)
        ends = []
        for step in (-0.05, 0.05):
            variable.assign(value + step * direction)
            ends.append(float(keras.ops.convert_to_numpy(probability())))
        variable.assign(value)
        expected = (ends[1] - ends[0]) / 0.1
        assert np.sum(slope * direction) == pytest.approx(expected, abs=2e-3)


def test_mean_field(rng):
    """Against quadrature, for two classes."""
    mean, variance = np.array([[1.0, 0.0]]), np.array([[2.0, 0.5]])
    p = heads.MeanField()(None, moments(mean, variance))
    z = np.linspace(-9, 9, 20001)
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    exact = (weights * special.expit(1 + np.sqrt(2.5) * z)).sum()
    assert abs(p.mean[0, 0] - exact) < 0.03
    # As p₂ = 1 − p₁
    np.testing.assert_allclose(p.variance[0, 0], p.variance[0, 1], rtol=1e-6)


def test_a_softmax_in_the_model_is_the_head(rng):
    """As an activation, as a layer, and of logits."""
    dense = {"name": "dense", "activation": "softmax"}
    x = rng.normal(size=(4, 3)).astype("float32")
    ends = (
        [keras.layers.Dense(5, **dense)],
        [keras.layers.Dense(5), keras.layers.Softmax()],
        [keras.layers.Dense(5), keras.layers.Activation("softmax")],
        [keras.layers.Dense(5)],
    )
    results = []
    hidden = kv.VarianceDense(8, "relu")
    for end in ends:
        model = keras.Sequential([keras.Input((3,)), hidden, *end])
        end[0].kernel.assign(np.linspace(-1, 1, 40).reshape(8, 5) ** 3)
        logits = len(end) == 1 and end[0].activation is keras.activations.linear
        likelihood = kv.likelihoods.Categorical(from_logits=logits)
        results.append(statistics(model, x, likelihood=likelihood))
    for result in results[1:]:
        for name, value in result.items():
            np.testing.assert_allclose(value, results[0][name], rtol=1e-5)


def test_sigmoid_head(rng):
    """Binary outputs, with their expected entropy."""
    model = keras.Sequential(
        [keras.Input((3,)), kv.VarianceDense(1, posterior="additive")]
    )
    x = rng.normal(size=(4, 3)).astype("float32")
    y = statistics(model, x, likelihood="bernoulli")
    p = special.expit(draws_of(model, x, 20_000).astype("float64"))
    entropy = (special.entr(p) + special.entr(1 - p))[..., 0]
    assert y["expected_entropy"].shape == (4,)
    np.testing.assert_allclose(y["mean"], p.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(y["expected_entropy"], entropy.mean(axis=0), atol=0.01)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", WALKED)
def test_compiled_twice_the_same_bits(name, jit_compile, rng):
    model, x = new(name, rng, posterior="layer_alpha")
    result = propagate_moments(model, likelihood="categorical")
    run = backends.compiled(result, jit_compile)
    first, second = (keras.tree.flatten(run(x)) for _ in range(2))
    for a, b, eager in zip(first, second, keras.tree.flatten(result(x)), strict=True):
        assert np.array_equal(a, b)
        np.testing.assert_allclose(a, eager, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_dtype_policies(policy, rng):
    """Moments are of single precision at least."""
    keras.config.set_dtype_policy(policy)
    model, x = new("convolutional", rng)
    result = propagate_moments(model, likelihood="categorical")
    p = result.predict(300 * x, verbose=0)
    is_double = policy == "float64" and backends.BACKEND == "tensorflow"
    assert p.dtype == ("float64" if is_double else "float32")
    assert np.isfinite(p).all()


def test_it_can_be_trained(rng):
    """Gradients reach θ, without noise."""
    model, x = new("convolutional", rng)
    result = propagate_moments(model, likelihood="categorical")
    result.compile("adam", "sparse_categorical_crossentropy")
    before = [np.array(w) for w in model.trainable_weights]
    history = result.fit(x, np.array([0, 1, 2]), epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for old, weight in zip(before, model.trainable_weights, strict=True):
        assert np.isfinite(weight).all() and not np.array_equal(old, weight)


def test_bad_input(rng):
    model, _ = new("sequential", rng)
    with pytest.raises(ValueError, match=r"head.*mean_field.*Received: .*'probit'"):
        propagate_moments(model, head="probit")
    for points in (0, 2, 6, 4.0):
        with pytest.raises(ValueError, match=f"`points`.*Received: points={points}"):
            heads.QuasiMonteCarlo(points)
    with pytest.raises(ValueError, match="variance layers"):
        propagate_moments(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))


def test_subclassed(rng):
    """As the same layers in a Functional model."""
    model, x = new("subclassed", rng)
    inputs = keras.Input((4,))
    same = keras.Model(inputs, model.call(inputs))
    actual, expected = (
        propagate_moments(each, statistics=True, likelihood=None)(x)
        for each in (model, same)
    )
    for name in ("mean", "variance"):
        np.testing.assert_allclose(
            np.asarray(actual[name]), np.asarray(expected[name]), rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize(
    "layer, name",
    [
        (keras.layers.UnitNormalization(name="norm"), "norm"),
        (keras.layers.TimeDistributed(kv.VarianceDense(2), name="hidden"), "hidden"),
        (keras.layers.Dense(2, activation=keras.ops.sort), "sort"),
    ],
)
def test_a_layer_without_a_rule(layer, name):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            kv.VarianceDense(4),
            keras.layers.Reshape((2, 2)),
            layer,
        ]
    )
    message = rf"'{name}'.* of class .*mc_predict.*moment_rule.*Received: "
    with pytest.raises(ValueError, match=message):
        propagate_moments(model)


def masked_model(pooling):
    x = keras.Input((4,), dtype="int32")
    h = keras.layers.Embedding(5, 3, mask_zero=True)(x)
    h = keras.layers.BatchNormalization()(kv.VarianceDense(3)(h))
    return keras.Model(x, pooling(keras.layers.ReLU()(h)))


@pytest.mark.filterwarnings("ignore:Layer 'global_max")  # it ends the mask
def test_masks():
    """Refused where a layer would read one, kept in the prefix."""
    with pytest.raises(ValueError, match=r"'pool' reads a mask.*Received: "):
        propagate_moments(
            masked_model(keras.layers.GlobalAveragePooling1D(name="pool"))
        )
    x = np.array([[1, 2, 0, 0], [3, 1, 2, 0]])
    result = propagate_moments(masked_model(keras.layers.GlobalMaxPooling1D()))
    assert np.isfinite(result.predict(x, verbose=0)).all()


def test_softmax_over_another_axis():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            kv.VarianceDense(4),
            keras.layers.Reshape((2, 2)),
            keras.layers.Softmax(axis=1),
        ]
    )
    with pytest.raises(ValueError, match=r"last axis.*Received: axis=1"):
        propagate_moments(model)
