"""The example that serves a model runs."""

import os

import keras
import numpy as np
import pytest

import keras_variance as kv
from examples import serve
from tests import backends

pytestmark = backends.tensorflow_only


def test_digits(tmp_path, capfd):
    folder = serve.main(["--epochs", "1", "--samples", "3", "--output", str(tmp_path)])
    assert folder == tmp_path / "digits" / "1"
    assert os.listdir(folder.parent) == ["1"]
    output = capfd.readouterr().out
    for endpoint in ("serving_default", "serving_seeded", "samples", "moments"):
        assert f"\n{endpoint}: " in output
    assert "(32, 3, 10)" in output
    assert 'base_path: "/models/digits"' in (tmp_path / "models.config").read_text()


def test_own_model(tmp_path, capfd):
    layers = [keras.Input((4,), name="x"), kv.VarianceDense(3)]
    keras.Sequential(layers).save(tmp_path / "mine.keras")
    np.savez(tmp_path / "rows.npz", x=np.ones((2, 4)))
    options = ["--model", tmp_path / "mine.keras", "--output", tmp_path / "models"]
    with pytest.raises(SystemExit):
        serve.main(list(map(str, options)))
    options += ["--rows", tmp_path / "rows.npz", "--frozen"]
    assert serve.main(list(map(str, options))).parent.name == "mine"
    assert "(2, 20, 3)" in capfd.readouterr().out
