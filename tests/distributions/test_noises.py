import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_variance import noises
from tests import backends
from tests.statistics import FALSE_ALARM, assert_moments

KURTOSIS = {"gaussian": 3.0, "bernoulli": 1.0, "uniform": 1.8}


@pytest.mark.parametrize("name", noises.MEMBERS)
def test_unit_variance(name, seed):
    draws = noises.get(name).sample((100_000, 2), "float32", seed)
    assert_moments(draws, 0.0, 1.0, KURTOSIS[name])


@pytest.mark.parametrize("shape", [(101, 999), (2, 50_000)])  # odd size, even size
def test_gaussian_is_normal(shape, seed):
    draws = np.ravel(noises.Gaussian().sample(shape, "float32", seed))
    assert stats.kstest(draws, "norm").pvalue > FALSE_ALARM
    # The two halves are the cosines and the sines of the same radii
    half = len(draws) // 2
    pairs = np.hypot(draws[:half], draws[half : 2 * half]) ** 2
    assert stats.kstest(pairs, "expon", args=(0, 2)).pvalue > FALSE_ALARM


def test_bernoulli_takes_two_values(seed):
    draws = noises.Bernoulli().sample((1000,), "float32", seed)
    assert set(np.unique(draws)) == {-1.0, 1.0}


def test_uniform_is_on_its_interval(seed):
    draws = np.ravel(noises.Uniform().sample((100_000,), "float32", seed))
    uniform = stats.uniform(-np.sqrt(3), 2 * np.sqrt(3))
    assert stats.kstest(draws, uniform.cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize("name", noises.MEMBERS)
@pytest.mark.parametrize("dtype", ["float32", backends.DOUBLE])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_shape_and_dtype(name, dtype, jit_compile):
    draw = backends.compiled(
        lambda x: noises.get(name).sample((ops.shape(x)[0], 3), dtype, 0), jit_compile
    )
    result = draw(np.zeros((5, 3), "float32"))
    assert result.shape == (5, 3)
    assert backends.dtype(result) == dtype


@backends.tensorflow_only
@pytest.mark.parametrize("name", noises.MEMBERS)
def test_distribution(name, seed):
    mean, scale = np.float32([1.0, -2.0]), np.float32([0.5, -3.0])
    distribution = noises.get(name).distribution(mean, scale)
    np.testing.assert_allclose(distribution.mean(), mean, rtol=1e-6)
    np.testing.assert_allclose(distribution.variance(), scale**2, rtol=1e-6)
    draws = distribution.sample(10_000, seed=seed)
    assert_moments(draws, mean, scale**2, KURTOSIS[name])
    assert np.all(np.isfinite(distribution.log_prob(draws)))
