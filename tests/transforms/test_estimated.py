"""Moments of what has no rule, of products and of attention, against draws."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_variance as kv
from keras_variance.transforms import ensemble, propagate_moments
from keras_variance.transforms.moments import Moments, find_rule, moment_rule
from keras_variance.transforms.moments.attention import bilinear
from keras_variance.transforms.moments.dependence import DependenceWarning
from tests.statistics import assert_moments, threshold

DRAWS = 50_000


def randomize(model, rng, scale=1.0):
    for weight in model.trainable_weights:
        if weight.path.endswith("phi"):
            weight.assign(rng.normal(size=weight.shape) - 2 + 2 * np.log(scale))
        else:
            weight.assign(scale * rng.normal(size=weight.shape))
    return model


def random_values(x):
    """Of a known input: independent Gaussians, (2, 3)."""
    return layers.Reshape((2, 3))(kv.VarianceDense(6, posterior="additive")(x))


def known_values(x):
    return layers.Reshape((2, 3))(layers.Dense(6)(x))


def model_of(function, rng, inputs=1):
    xs = [keras.Input((4,), name=f"x{k}") for k in range(inputs)]
    model = keras.Model(xs if inputs > 1 else xs[0], function(*xs))
    data = [rng.normal(size=(1, 4)).astype("float32") for _ in xs]
    return randomize(model, rng), data if inputs > 1 else data[0]


def moments(model, x, **options):
    result = propagate_moments(model, likelihood=None, statistics=True, **options)
    result = result.predict(x, verbose=0)
    return result["mean"][0], result["variance"][0]


def draws(model, x, samples=DRAWS):
    return ensemble(model, samples, seed=0).predict(x, verbose=0)[0]


def assert_exact(model, x):
    sample = draws(model, x).astype("float64")
    centred = sample - sample.mean(axis=0)
    kurtosis = (centred**4).mean(axis=0) / (centred**2).mean(axis=0) ** 2
    assert_moments(sample, *moments(model, x), kurtosis)


PRODUCTS = {
    "einsum": lambda x, y: ops.einsum("bij,bkj->bik", x, y),
    "einsum of outer indices": lambda x, y: ops.einsum("bij,bkl->bijkl", x, y),
    "einsum with dots": lambda x, y: ops.einsum("...ij,...kj->...ik", x, y),
    "matmul": lambda x, y: ops.matmul(x, ops.transpose(y, (0, 2, 1))),
    "dot": lambda x, y: layers.Dot(axes=2)([x, y]),
}


@pytest.mark.parametrize("known", [None, 0, 1])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_independent_values(name, known, rng):
    def product(*xs):
        values = (known_values if k == known else random_values for k in range(2))
        return PRODUCTS[name](*(make(x) for make, x in zip(values, xs, strict=True)))

    assert_exact(*model_of(product, rng, inputs=2))


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        (lambda x, y: layers.Dot(2, normalize=True)([x, y]), "normalizes its inputs"),
        (lambda x, y: ops.einsum("bij->bj", x) + y[:, 0], "other than two values"),
        (lambda x, y: ops.einsum("bij,bij,bij->bj", x, x, y), "other than two values"),
        (lambda x, y: ops.einsum("bij,bkl->bik", x, y), "indices of one value alone"),
        (lambda x, y: ops.einsum("bij,bkl", x, y), "indices of one value alone"),
    ],
)
def test_products_without_a_rule(merge, message, rng):
    model, _ = model_of(
        lambda x, y: merge(random_values(x), random_values(y)), rng, inputs=2
    )
    with pytest.raises(ValueError, match=message + r"[^\0]*Received: "):
        propagate_moments(model)


def test_an_index_twice():
    """A diagonal: each term is there once, and still the rule says no."""
    operation = ops.einsum("bii,bij->bj", *[keras.Input((3, 3))] * 2)
    operation = operation._keras_history.operation
    ones = Moments(np.ones((1, 3, 3), "float32"), np.ones((1, 3, 3), "float32"))
    assert find_rule(operation) is bilinear
    with pytest.raises(ValueError, match=r"adds up.*Received: "):
        bilinear(operation, [ones, ones])


MASK = np.array([[True, True, False], [True, False, True]])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"mask": MASK[None, None]},
        {"bias": np.linspace(-1, 1, 6, dtype="float32").reshape(1, 1, 2, 3)},
        {"is_causal": True},
    ],
    ids=lambda options: next(iter(options), "plain"),
)
def test_attention_with_known_queries_and_keys(options, rng):
    def attend(x, y):
        q = layers.Reshape((2, 2, 3))(layers.Dense(12)(x))
        k = layers.Reshape((3, 2, 3))(layers.Dense(18)(x))
        dense = kv.VarianceDense(18, posterior="additive")
        v = layers.Reshape((3, 2, 3))(dense(y))
        return ops.dot_product_attention(q, k, v, **options)

    assert_exact(*model_of(attend, rng, inputs=2))


class Attention(layers.Layer):
    """Of products and a softmax, which has a mask; the values are random."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.query, self.key = (layers.Dense(3) for _ in range(2))
        self.value = kv.VarianceDense(3, posterior="additive")
        self.softmax = layers.Softmax()

    def build(self, shape):
        for each in (self.query, self.key, self.value):
            each.build(shape)

    def call(self, inputs):
        q, k, v = (each(inputs) for each in (self.query, self.key, self.value))
        scores = ops.einsum("bth,bsh->bts", q, k)
        weights = self.softmax(scores, mask=ops.tril(ops.ones((1, 3, 3), "bool")))
        return ops.matmul(weights, v)


def test_attention_that_is_opened(rng):
    x = keras.Input((3, 4))
    model = randomize(keras.Model(x, Attention()(x)), rng)
    assert_exact(model, rng.normal(size=(1, 3, 4)).astype("float32"))


def test_a_softmax_with_a_mask(rng):
    x, mask = keras.Input((4,)), keras.Input((2, 3), dtype="bool")
    y = layers.Softmax()(random_values(x), mask=mask)
    model = randomize(keras.Model([x, mask], y), rng, scale=0.3)
    data = [rng.normal(size=(1, 4)).astype("float32"), MASK[None]]
    mean, variance = moments(model, data, head=kv.moments.heads.QuasiMonteCarlo(1024))
    sample = draws(model, data)
    np.testing.assert_allclose(mean, sample.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(variance, sample.var(axis=0), atol=0.01)
    assert (mean[~MASK] == 0).all() and (variance[~MASK] == 0).all()
    np.testing.assert_allclose(mean.sum(axis=-1), 1, rtol=1e-6)


class Scaled(layers.Layer):
    """A layer with a rule, and an argument that the rule is not given."""

    def call(self, inputs, scale=None, training=None):
        return inputs if scale is None else scale * inputs


@moment_rule(Scaled)
def scaled(layer, x):
    return x


def test_arguments_that_a_rule_does_not_take(rng):
    layer = Scaled(name="scaled")
    model, _ = model_of(lambda x: layer(random_values(x), training=False), rng)
    propagate_moments(model)
    model, x = model_of(lambda x: layer(random_values(x), x[:, :2, None]), rng)
    with pytest.raises(ValueError, match=r"'scaled' is called with scale.*Received: "):
        propagate_moments(model)
    assert_estimated(model, x)


def assert_estimated(model, x, samples=4_000, of=DRAWS):
    """The estimate against draws, each within its standard error."""
    estimated, sample = moments(model, x, fallback_samples=samples), draws(model, x, of)
    sample = sample.astype("float64")
    mean, variance = sample.mean(axis=0), sample.var(axis=0)
    centred = sample - mean
    spread = (centred**4).mean(axis=0) - variance**2
    limit, n = threshold(2 * mean.size), 1 / (1 / samples + 1 / len(sample))
    error = np.abs(estimated[0] - mean)
    assert (error <= limit * np.sqrt(variance / n) + 1e-6).all(), error.max()
    error = np.abs(estimated[1] - variance)
    # Pairs with one sign of even functions count once
    assert (error <= limit * np.sqrt(2 * spread / n) + 1e-6).all(), error.max()


class Unknown(layers.Layer):
    """A layer without a rule, that Keras cannot trace into rules."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


WITHOUT_A_RULE = {
    "odd": lambda h: h**3 + 2 * h,
    "even": lambda h: ops.flip(h, axis=-1) ** 2,
    "both": lambda h: ops.logsumexp(h, axis=-1),
    "sorted": lambda h: ops.sort(h, axis=-1),
}


@pytest.mark.parametrize("name", WITHOUT_A_RULE)
def test_a_layer_without_a_rule(name, rng):
    layer = Unknown(WITHOUT_A_RULE[name], name="unknown")
    model, x = model_of(lambda x: layer(random_values(x)), rng)
    with pytest.raises(ValueError, match="has no rule"):
        propagate_moments(model)
    assert_estimated(model, x)


def test_the_mean_of_a_linear_function_has_no_error(rng):
    flip = Unknown(lambda h: 2 * ops.flip(h, axis=-1) - 1)
    model, x = model_of(lambda x: flip(random_values(x)), rng)
    known, _ = model_of(lambda x: random_values(x), rng)
    for weight, value in zip(known.weights, model.weights, strict=True):
        weight.assign(ops.copy(value))
    mean, _ = moments(model, x, fallback_samples=4)
    expected, _ = moments(known, x)
    np.testing.assert_allclose(mean, 2 * expected[:, ::-1] - 1, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [0, 2, 5, 4.5, "4", True])
def test_the_number_of_samples(bad, rng):
    model, _ = model_of(random_values, rng)
    with pytest.raises(ValueError, match=r"`fallback_samples` must be .*Received: "):
        propagate_moments(model, fallback_samples=bad)


def test_it_is_a_function_of_each_example(rng):
    """Not of the others in its batch, nor of the call."""
    layer = Unknown(lambda h: ops.sort(h, axis=-1))
    model, _ = model_of(lambda x: layer(random_values(x)), rng)
    x = rng.normal(size=(5, 4)).astype("float32")
    predict = propagate_moments(model, None, fallback_samples=20)
    expected = ops.convert_to_numpy(predict(x))
    np.testing.assert_array_equal(ops.convert_to_numpy(predict(x)), expected)
    for k in range(len(x)):
        alone = predict.predict(x[k : k + 1], verbose=0)
        np.testing.assert_allclose(alone, expected[k : k + 1], rtol=1e-5, atol=1e-6)


class Difference(layers.Layer):
    """Of two values, sorted."""

    def call(self, inputs, other):
        return ops.sort(inputs, axis=-1) - ops.sort(other, axis=-1)

    def compute_output_shape(self, inputs_shape, other_shape):
        return inputs_shape


def test_two_values_have_noise_of_their_own(rng):
    def difference(x, y):
        return Difference()(random_values(x), random_values(y))

    assert_estimated(*model_of(difference, rng, inputs=2))


def test_one_value_in_two_places_is_drawn_once(rng):
    """Of a layer's two arguments: h − h is 0."""

    def difference(x):
        h = random_values(x)
        return Difference()(h, h)

    model, x = model_of(difference, rng)
    mean, variance = moments(model, x, fallback_samples=20)
    assert (mean == 0).all() and (variance == 0).all()


def gate(h):
    """As squeeze and excitation: a value times a function of it."""
    return layers.Multiply(name="gate")([h, layers.Activation("sigmoid")(h)])


def test_dependent_values_count_as_independent(rng):
    model, x = model_of(lambda x: gate(random_values(x)), rng)
    with pytest.raises(ValueError, match="'gate' merges values that depend"):
        propagate_moments(model)
    with pytest.warns(DependenceWarning, match="'gate' multiplies values that depend"):
        mean, variance = moments(model, x, fallback_samples=4)
    h, _ = model_of(random_values, rng)
    for weight, value in zip(h.weights, model.weights, strict=True):
        weight.assign(ops.copy(value))
    m, v = moments(h, x)
    s = layers.Activation("sigmoid")
    mean_s, v_s = moments(keras.Model(h.input, s(h.output)), x)
    np.testing.assert_allclose(mean, m * mean_s, rtol=1e-5)
    product = v * mean_s**2 + v_s * m**2 + v * v_s
    np.testing.assert_allclose(variance, product, rtol=1e-4)


def test_a_block_without_noise_is_called_as_a_whole(rng):
    """What depends on one value in it does so in the samples."""
    block = Unknown(gate, name="block")
    model, x = model_of(lambda x: block(random_values(x)), rng)
    assert_estimated(model, x)


def test_attention_of_random_values(rng):
    attention = layers.MultiHeadAttention(2, 3, name="attention")

    def attend(x):
        h = random_values(x)
        return attention(h, h)

    model, x = model_of(attend, rng)
    with pytest.raises(ValueError, match="In layer 'attention'"):
        propagate_moments(model)
    assert_estimated(model, x)


def test_a_recurrent_layer_of_random_values(rng):
    model, x = model_of(lambda x: layers.LSTM(3)(random_values(x)), rng)
    assert_estimated(model, x)


def test_a_layer_with_noise_inside(rng):
    """One draw of its weights a sample, over all time steps."""
    wrapper = kv.VarianceWrapper(layers.LSTM(3), posterior="additive")

    def of_random(x):
        return wrapper(random_values(x))

    model, x = model_of(of_random, rng)
    assert_estimated(model, x, 200, of=500)
    model, x = model_of(lambda x: wrapper(known_values(x)), rng)
    assert_estimated(model, x, 200, of=500)


def test_its_noise_is_known(rng):
    wrapper = kv.VarianceWrapper(layers.Dense(6), name="wrapper")
    model, _ = model_of(lambda x: gate(wrapper(x)), rng)
    with pytest.warns(DependenceWarning, match="same noise, of 'wrapper'"):
        propagate_moments(model, fallback_samples=4)


def test_masks(rng):
    """A layer that reads one has it."""
    x = keras.Input((3, 4))
    h = kv.VarianceDense(4, posterior="additive")(layers.Masking()(x))
    model = randomize(keras.Model(x, layers.LSTM(2)(h)), rng)
    data = rng.normal(size=(1, 3, 4)).astype("float32")
    data[:, 1:] = 0
    with pytest.raises(ValueError, match="reads a mask"):
        propagate_moments(model)
    assert_estimated(model, data)


def test_random_tokens(rng):
    """Of integers there are no Gaussians."""

    def words(x):
        tokens = ops.argmax(random_values(x), axis=-1)
        return layers.Embedding(3, 2, name="words")(tokens)

    model, _ = model_of(words, rng)
    with pytest.raises(ValueError, match="'words' has random inputs that are no float"):
        propagate_moments(model, fallback_samples=4)


def test_moment_predict(rng):
    layer = Unknown(lambda h: ops.sort(h, axis=-1))
    model, _ = model_of(lambda x: layer(random_values(x)), rng)
    x = rng.normal(size=(5, 4)).astype("float32")
    options = {"likelihood": None, "verbose": 0, "fallback_samples": 20}
    one = kv.moment_predict(model, x, **options)
    several = kv.moment_predict([model], x, **options)
    np.testing.assert_allclose(one.variance, several.variance, rtol=1e-5)
    with pytest.raises(ValueError, match="has no rule"):
        kv.moment_predict(model, x, **{**options, "fallback_samples": None})


def test_it_is_saved(rng, tmp_path):
    model, x = model_of(lambda x: layers.LSTM(3)(random_values(x)), rng)
    result = propagate_moments(model, None, fallback_samples=20)
    result.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded(x)), ops.convert_to_numpy(result(x)), rtol=1e-6
    )
