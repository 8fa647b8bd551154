"""`kv.random.held` and `kv.random.seeded`: the noise of all layers of a model."""

import keras
import numpy as np
import pytest

import keras_variance as kv
from tests import backends

layers = keras.layers
X = np.ones((3, 4), "float32")


def nested():
    """Two variance layers, one of them in a nested model that is called twice."""
    inner = keras.Sequential(
        [keras.Input((4,)), kv.VarianceDense(4, estimator="weight_sampling")]
    )
    x = keras.Input((4,))
    return keras.Model(x, kv.VarianceDense(2)(inner(inner(x))))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [kv.VarianceDense(4), keras.Sequential([kv.VarianceDense(2)])]

    def call(self, inputs):
        return self.blocks[1](self.blocks[0](inputs))


def subclassed():
    model = Subclassed()
    model(X)
    return model


MODELS = {"nested": nested, "subclassed": subclassed}
each_model = pytest.mark.parametrize("name", MODELS)


def states(model):
    layers = kv.layers.variance_layers(model)
    return [np.array(layer.seed_generator.state) for layer in layers]


def equal(a, b):
    return bool(np.all(np.equal(a, b)))


@each_model
def test_held(name):
    """One noise in eager, compiled and predict calls; then it goes on."""
    model = MODELS[name]()
    compiled = backends.compiled(model)
    before = np.asarray(model(X))
    model.predict(X, verbose=0)  # traced before, too
    with kv.random.held(model) as inside:
        assert inside is model
        draws = [np.asarray(call(X)) for call in (model, compiled, model)]
        draws += [model.predict(X, verbose=0) for _ in range(2)]
    after = [np.asarray(call(X)) for call in (model, model, compiled)]
    for draw in draws[1:]:
        np.testing.assert_allclose(draw, draws[0], rtol=1e-5, atol=1e-6)
    distinct = [before, draws[0], *after]
    assert len(np.unique([draw[0, 0] for draw in distinct])) == len(distinct)


@each_model
def test_held_layers_have_noise_of_their_own(name):
    model = MODELS[name]()
    first, last = kv.layers.variance_layers(model)
    with kv.random.held(model):
        a, b = (np.asarray(each.seed_generator.next()) for each in (first, last))
        assert not equal(a, b)


@each_model
def test_held_is_over_after_an_exception(name):
    model = MODELS[name]()
    with pytest.raises(RuntimeError, match="mine"), kv.random.held(model):
        held = np.asarray(model(X))
        raise RuntimeError("mine")
    draws = [np.asarray(model(X)) for _ in range(2)]
    assert not equal(draws[0], draws[1]) and not equal(draws[0], held)


def test_held_is_not_what_was_drawn_before():
    """Nor what is held the next time."""
    model = nested()
    draws = [np.asarray(model(X))]
    for _ in range(2):
        with kv.random.held(model):
            draws.append(np.asarray(model(X)))
    draws.append(np.asarray(model(X)))
    assert len(np.unique([draw[0, 0] for draw in draws])) == 4


def test_held_within_held():
    """The outer one is not over with the inner one."""
    model = nested()
    with kv.random.held(model):
        with kv.random.held(model):
            model(X)
        draws = [np.asarray(model(X)) for _ in range(2)]
        np.testing.assert_array_equal(*draws)
    assert not equal(model(X), model(X))


def test_held_gradient():
    """An episode and its gradient step see the same weights."""
    layer = kv.VarianceDense(2, estimator="weight_sampling", use_bias=False)
    model = keras.Sequential([keras.Input((4,)), layer])
    with kv.random.held(model):
        weights = np.asarray(model(np.eye(4)))
        _, (gradient,) = backends.gradients(
            lambda: keras.ops.sum(model(X)), [layer.kernel]
        )
    # d outputs / d θ = Σ x · noise, noise = weights / θ
    expected = len(X) * weights / np.asarray(layer.kernel)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


def test_other_random_layers_go_on():
    dropout = layers.Dropout(0.5)
    model = keras.Sequential(
        [keras.Input((100,)), dropout, kv.VarianceDense(3, posterior="additive")]
    )
    x = np.ones((1, 100), "float32")
    with kv.random.held(model):
        a, b = (np.asarray(model(x, training=True)) for _ in range(2))
        assert not equal(a, b)
        np.testing.assert_array_equal(model(x), model(x))


@each_model
def test_seeded(name):
    """Repeatable, in eager, compiled and predict calls; others for another seed."""
    model = MODELS[name]()
    compiled = backends.compiled(model)

    def draw(seed, call):
        with kv.random.seeded(model, seed) as inside:
            assert inside is model
            return [np.asarray(call(X)) for _ in range(2)]

    first = draw(3, model)
    model(X)
    predict = model.predict
    for call in (model, compiled, lambda x: predict(x, verbose=0)):
        again = draw(3, call)
        np.testing.assert_allclose(again, first, rtol=1e-5, atol=1e-6)
    assert not equal(first[0], first[1])
    assert not equal(draw(4, model)[0], first[0])


@each_model
def test_seeded_layers_go_on_where_they_were(name):
    model = MODELS[name]()
    model(X)
    before = states(model)
    with kv.random.seeded(model, 3):
        model(X)
    with pytest.raises(RuntimeError, match="mine"), kv.random.seeded(model, 3):
        model.predict(X, verbose=0)
        raise RuntimeError("mine")
    np.testing.assert_array_equal(states(model), before)


def test_seeded_layers_have_streams_of_their_own():
    """Equal layers in a row: equal noise would make their outputs squares."""
    model = keras.Sequential([keras.Input((4,))])
    for _ in range(3):
        model.add(kv.VarianceDense(4, seed=0))
    with kv.random.seeded(model, 0):
        seeds = [
            tuple(np.asarray(layer.seed_generator.next())) for layer in model.layers
        ]
    assert len(set(seeds)) == 3


def test_seeded_dropout():
    """All random layers, not variance layers alone."""
    model = keras.Sequential(
        [keras.Input((20,)), layers.Dropout(0.5), layers.GaussianNoise(1.0)]
    )
    x = np.ones((2, 20), "float32")

    def draw(seed):
        with kv.random.seeded(model, seed):
            return np.asarray(model(x, training=True))

    np.testing.assert_array_equal(draw(1), draw(1))
    assert not equal(draw(1), draw(2))
    assert not equal(model(x, training=True), model(x, training=True))


def test_seeded_by_a_tensor():
    model = nested()

    @backends.compiled
    def draw(seed):
        with kv.random.seeded(model, seed):
            return model(X)

    one, same, other = (draw(np.array(seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(one, same)
    assert not equal(one, other)


@pytest.mark.skipif(backends.BACKEND != "jax", reason="a function of JAX")
@pytest.mark.parametrize(
    "scope", [kv.random.held, lambda model: kv.random.seeded(model, 1)]
)
def test_in_a_function_that_jax_compiles(scope):
    """No tracer is left in the model; it goes on where it was."""
    import jax

    model, other = nested(), nested()
    model(X), other(X)  # the seeds of the one are those of the other
    for layer, like in zip(
        kv.layers.variance_layers(model), kv.layers.variance_layers(other), strict=True
    ):
        like.seed_generator.state.assign(np.array(layer.seed_generator.state))

    @jax.jit
    def call(x):
        with scope(model):
            return model(x)

    call(X)
    with scope(other):
        other(X)
    for state, expected in zip(states(model), states(other), strict=True):
        np.testing.assert_array_equal(state, expected)


@pytest.mark.parametrize("transform", ["ensemble", "predictive", "zero_mean"])
def test_seeded_transforms(transform):
    """Transformed models are held and seeded as their sources are."""
    model = getattr(kv.transforms, transform)(nested())

    def draw():
        return keras.tree.flatten(model(X))[0]

    with kv.random.seeded(model, 5):
        first = draw()
    with kv.random.seeded(model, 5):
        np.testing.assert_array_equal(draw(), first)
    with kv.random.held(model):
        np.testing.assert_array_equal(draw(), draw())
    assert not equal(draw(), draw())
