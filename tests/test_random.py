import concurrent.futures
import itertools

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance.random import BLOCK, SeedGenerator, Stream, derive
from tests import backends
from tests.statistics import assert_uncorrelated


def normal(generator):
    return keras.random.normal((4,), seed=generator)


def compiled(generator, jit_compile):
    return backends.compiled(lambda: normal(generator), jit_compile)


@pytest.mark.skipif(
    backends.BACKEND == "torch", reason="keys are folded, as Keras would sum them"
)
def test_first_replica_draws_what_the_stock_generator_draws():
    ours, stock = SeedGenerator(7), keras.random.SeedGenerator(7)
    np.testing.assert_array_equal(normal(ours), normal(stock))


def test_seeds_are_repeatable_and_distinct():
    generator, same, other = SeedGenerator(7), SeedGenerator(7), SeedGenerator(8)
    seeds = [tuple(np.asarray(generator.next())) for _ in range(5)]
    assert seeds == [tuple(np.asarray(same.next())) for _ in range(5)]
    assert len({*seeds, tuple(np.asarray(other.next()))}) == 6


@pytest.mark.parametrize("mode", ["eager", "compiled", "xla"])
def test_hold_and_release(mode):
    generator = SeedGenerator(7)
    draw = {
        "eager": lambda: normal(generator),
        "compiled": compiled(generator, False),
        "xla": compiled(generator, True),
    }[mode]
    before = np.asarray(draw())
    generator.hold()
    held = [np.asarray(draw()) for _ in range(3)]
    generator.release()
    after = [np.asarray(draw()) for _ in range(2)]
    np.testing.assert_array_equal(held[0], held[1])
    np.testing.assert_array_equal(held[0], held[2])
    distinct = {tuple(each) for each in (before, held[0], *after)}
    assert len(distinct) == 4


def test_hold_inside_a_compiled_function():
    generator = SeedGenerator(7)

    @backends.compiled
    def episode():
        generator.hold()
        draws = normal(generator), normal(generator)
        generator.release()
        return *draws, normal(generator)

    first, second, third = episode()
    np.testing.assert_array_equal(first, second)
    assert not np.any(np.equal(second, third))
    assert not np.any(np.equal(third, episode()[0]))


def test_streams_of_successive_calls_do_not_meet():
    generator = SeedGenerator(7)
    calls = [Stream(generator.next()) for _ in range(2)]
    seeds = [tuple(np.asarray(call.next())) for call in calls for _ in range(BLOCK)]
    assert len(set(seeds)) == 2 * BLOCK


def replicas(strategy, function):
    """What `function` returns on each replica, compiled."""
    with strategy.scope():
        generators = SeedGenerator(7), keras.random.SeedGenerator(7)
    run = backends.compiled(lambda: strategy.run(function, args=generators))
    return lambda: [
        [np.asarray(each) for each in result.values] for result in run()
    ], generators


def test_replicas_draw_different_noise(strategy):
    def both(ours, stock):
        return normal(ours), normal(stock)

    draw, (generator, _) = replicas(strategy, both)
    for _ in range(2):
        ours, stock = draw()
        assert not np.any(ours[0] == ours[1])
        np.testing.assert_array_equal(stock[0], stock[1])  # why ours is needed
        np.testing.assert_array_equal(ours[0].shape, (4,))
    generator.hold()
    first, second = draw()[0], draw()[0]
    generator.release()
    np.testing.assert_array_equal(first, second)
    assert not np.any(np.equal(first, draw()[0]))


def test_layers_draw_different_noise_on_each_replica(strategy):
    with strategy.scope():
        layer = kv.VarianceDense(3)
        layer.build((None, 2))
    x = keras.ops.ones((1, 2))
    run = backends.compiled(lambda: strategy.run(lambda: layer(x)))
    first, second = run().values
    assert not np.any(np.equal(first, second))


def test_consecutive_seeds_draw_independent_noise():
    """In layers, call by call, and in samples."""
    x, options = np.ones((1, 1), "float32"), {"kernel_initializer": "ones"}
    layers = [kv.VarianceDense(5000, seed=seed, **options) for seed in (1, 2)]
    draws = [np.asarray(layer(x))[0] for layer in layers for _ in range(3)]
    for seed in (3, 4):
        model = keras.Sequential([keras.Input((1,)), kv.VarianceDense(5000, **options)])
        draws += [*np.asarray(kv.transforms.ensemble(model, 3, seed=seed)(x))[0]]
    for first, second in itertools.combinations(draws, 2):
        assert_uncorrelated(first, second)


def test_derived_seeds():
    assert derive(None, 1) is None
    seeds = {
        derive(seed, *path)
        for seed in (0, 1, 2, 2**31 - 1)
        for path in [(), (0,), (1,)]
    }
    assert len(seeds) == 12
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive(3, 1) == derive(3, 1)


def in_threads(function, threads=8):
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, range(threads)))


def test_threads_draw_different_noise():
    generator = SeedGenerator(7)

    def draw(thread):
        return [tuple(np.asarray(generator.next()).tolist()) for _ in range(300)]

    draws = [seed for each in in_threads(draw) for seed in each]
    assert len({*draws}) == 8 * 300


@pytest.mark.skipif(
    backends.BACKEND == "jax", reason="Keras takes a model's variables away meanwhile"
)
def test_predict_in_threads():
    """A seed may be drawn twice; predictions are right."""
    model = keras.Sequential([keras.Input((4,)), kv.VarianceDense(3)])
    x = np.ones((5, 4), "float32")
    predictor = kv.transforms.predictive(model, samples=2000, seed=1)
    expected = predictor.predict(x, verbose=0)["variance"]
    for each in in_threads(lambda _: predictor.predict(x, verbose=0)["variance"], 4):
        # The standard error of a variance of 2,000 normal samples is 3 %
        np.testing.assert_allclose(each, expected, rtol=0.3)


def test_bad_seed():
    with pytest.raises(
        ValueError, match=r"`seed` must be an integer.* Received: seed='a'"
    ):
        SeedGenerator("a")


def test_streams_of_samples_generators_and_weights_differ():
    """By the sums of what sets each apart, as integers of 32 bits wrap."""
    strides = [
        getattr(kv.random, f"{name}_STRIDE")
        for name in ("SAMPLE", "GENERATOR", "WEIGHT")
    ]
    counts = np.indices((100, 4, 64)).reshape(3, -1)
    keys = strides @ counts.astype("int64") % 2**32
    assert np.unique(keys).size == keys.size
