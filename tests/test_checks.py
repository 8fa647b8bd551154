"""What the checks return; what they refuse is in `test_bad_arguments.py`."""

import json

import keras
import numpy as np
import pytest

import keras_variance as kv
from keras_variance import checks
from keras_variance.transforms import draw, ensemble, zero_mean
from tests.transforms.models import new

TWO = [2, np.int64(2), np.uint8(2), np.array(2)]


@pytest.mark.parametrize("value", TWO)
def test_integers_of_numpy(value):
    for number in (checks.integer("a", value, minimum=2), checks.number("a", value)):
        assert number == 2 and type(number) is int


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float16(0.5)])
def test_numbers_of_numpy(value):
    number = checks.number("a", value, minimum=0.5, above=0, below=1)
    assert number == 0.5 and type(number) is float


@pytest.mark.parametrize("value", [True, np.True_, np.array(True)])
def test_flags_of_numpy(value):
    assert checks.flag("a", value) is True


def test_message():
    bad = np.ones((2, 3))
    with pytest.raises(ValueError) as error:
        checks.number("rate", bad, minimum=0, below=1)
    assert str(error.value) == (
        "Argument `rate` must be a finite number ≥ 0 and < 1. "
        "Received: rate=array of shape (2, 3)"
    )


@pytest.mark.parametrize("value", TWO)
def test_configs_have_numbers_of_python(value):
    """So that they can be saved."""
    objects = [
        kv.VarianceDense(3, prior="ard", train_size=value, kl_weight=value, seed=value),
        kv.posteriors.Additive(value),
        kv.priors.StudentT(value, value),
        kv.metrics.ExpectedCalibrationError(value),
    ]
    for each in objects:
        assert "2" in json.dumps(each.get_config())


@pytest.mark.parametrize("value", TWO)
def test_seeds_and_samples_of_numpy(value, rng):
    model, x = new("sequential", rng)
    options = {"samples": value, "seed": value, "batch_size": value, "verbose": 0}
    expected = {**options, "samples": 2, "seed": 2}
    mean, same = (kv.mc_predict(model, x, **o).mean for o in (options, expected))
    np.testing.assert_array_equal(mean, same)
    for transform in (draw, ensemble, zero_mean):
        first, second = (transform(model, seed=seed)(x) for seed in (value, 2))
        np.testing.assert_array_equal(first, second)


def test_what_needs_another_backend_says_so(tmp_path, monkeypatch):
    """And what to do, in place of an import that fails."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    model = keras.Sequential([keras.Input((4,)), kv.VarianceDense(3)])
    for name, backends in {"saved_model": "TensorFlow", "onnx": r"\w+ or PyT"}.items():
        match = rf"^`export` with .*{name}' needs Keras on {backends}.*\.keras.*=jax$"
        with pytest.raises(RuntimeError, match=match):
            kv.export(model, tmp_path / "m", format=name)
    assert not (tmp_path / "m").exists()
    for noise in kv.noises.MEMBERS:
        layer = kv.VarianceDense(3, noise=noise)
        layer.build((None, 4))
        with pytest.raises(RuntimeError, match=r"`posterior_dist.*kernel_scale.*=jax$"):
            layer.posterior_distribution()
