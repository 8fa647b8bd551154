import argparse

import keras
import numpy as np
import pytest
from keras import ops

import keras_variance as kv
from examples import uci
from tests import backends


def arguments(**values):
    defaults = {"smoke": True, "validate": False, "seed": 0, "steps": 2}
    return argparse.Namespace(**{**defaults, **values})


@pytest.fixture
def data():
    return uci.load(arguments(), "diabetes", 2)


@pytest.mark.usefixtures("eagerly")
@backends.once
def test_smoke(tmp_path):
    options = ["--smoke", "--methods", "normal", "--work", tmp_path]
    uci.main([*map(str, options), "--results", str(tmp_path)])
    page = (tmp_path / "uci.md").read_text()
    assert "| diabetes |" in page and "±" in page


def test_splits(data):
    """Each is normalized by its own training part, and nothing is in both parts."""
    np.testing.assert_allclose(data.x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(data.x.std(axis=0), 1, rtol=1e-4)
    np.testing.assert_allclose(data.y.std(axis=0), 1, rtol=1e-4)
    assert len(data.x) + len(data.x_test) == 442
    random = np.random.default_rng(0)
    test = random.permuted(np.arange(100 * 4).reshape(4, 100) % 100 < 10, axis=1)
    held_out = uci.held_out(test)
    assert not (held_out & test).any()
    np.testing.assert_array_equal(held_out.sum(axis=1), 9)
    assert (held_out[0] != held_out[1]).any()


def test_the_best_scale(rng):
    """Normal priors of another scale have a greater KL divergence, split by split."""
    kernel, phi = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 5)) - 3
    posterior = kv.posteriors.Additive()
    values = [ops.convert_to_tensor(each) for each in (kernel, phi)]
    kl = np.asarray(uci.EmpiricalNormal().kl(posterior, *values)).sum(axis=(1, 2))
    scale = np.sqrt(np.mean(kernel**2 + np.exp(phi), axis=(1, 2)))
    for split in range(2):
        each = [x[split] for x in values]
        for factor in (0.9, 1.0, 1.1):
            prior = kv.priors.Normal(float(factor * scale[split]))
            other = float(ops.sum(prior.kl(posterior, *each)))
            if factor == 1:
                assert other == pytest.approx(kl[split], rel=1e-5)
            else:
                assert other > kl[split]


@pytest.mark.parametrize("trained", uci.TRAINED)
@pytest.mark.parametrize("method", uci.METHODS)
def test_splits_share_nothing(method, trained, data):
    """The gradient of a split's kernels is 0 in what the others predict."""
    model = uci.network(uci.METHODS[method], data)
    fitted = uci.trained_by(trained, model, 2, 1)
    kernel = model.layers[0].kernel
    x = ops.convert_to_tensor(data.x[:4])
    _, (gradient,) = backends.gradients(lambda: ops.sum(fitted(x)[:, 1]), [kernel])
    gradient = np.abs(np.asarray(gradient)).sum(axis=(1, 2))
    assert gradient[1] > 0 and gradient[0] == 0


@pytest.mark.usefixtures("eagerly")
def test_training_by_moments_has_no_noise(data):
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        model = uci.network(uci.METHODS["normal"], data)
        fitted = uci.trained_by("moments", model, 2, 1)
        fitted.fit(data.x[:100], data.y[:100], 50, verbose=0)
        results.append(fitted.evaluate(data.x[:100], data.y[:100], verbose=0))
    again = fitted.evaluate(data.x[:100], data.y[:100], verbose=0)
    assert results[0] == results[1] == again


def test_reaches():
    result = {"log_likelihood": [-1.0, -2.0]}  # -1.5 ± 0.5
    assert uci.reaches(result, -0.5) and not uci.reaches(result, -0.49)
