import json
import re

import keras
import numpy as np
import pytest

from examples import architectures, zoo


@keras.saving.register_keras_serializable("tests")
class Broken(keras.layers.Layer):
    """Moments do not go through it."""

    def call(self, inputs):
        return keras.ops.clip(inputs, -1e6, 1e6)


@pytest.fixture
def small(monkeypatch):
    """One architecture, in place of all: a convolution and a head."""
    made = []

    def build(name):
        made.append(name)
        if name == "NASNetMobile":
            raise ValueError("No network\nof this size")
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((4, 4, 1)),
                layers.Conv2D(2, 3, activation="relu"),
                *([Broken()] if name == "VGG19" else []),
                layers.Flatten(),
                layers.Dense(zoo.CLASSES),
            ]
        )
        return model, np.random.default_rng(0).random((2, 4, 4, 1)).astype("float32")

    monkeypatch.setattr(architectures, "build", build)
    monkeypatch.delitem(architectures.OPERATIONS, "export")  # of minutes
    monkeypatch.setattr(architectures, "FALLBACK", 400)
    return made


def test_results(small, tmp_path):
    """A number or an error in each cell; what is done is not done again."""
    folders = ["--work", str(tmp_path / "work"), "--results", str(tmp_path)]
    every = ["NASNetMobile", "VGG16", "VGG19"]
    for names in (["VGG16"], every):
        architectures.main(["--smoke", "--architectures", *names, *folders])
    assert small == ["VGG16", "NASNetMobile", "VGG19"]
    # Operations that were not there yet are run alone
    path = tmp_path / "work" / "architectures-VGG16-smoke.json"
    row = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in row.items() if k != "rounding"}))
    others = ["--operations", "draw"]
    architectures.main(["--smoke", "--architectures", "VGG16", *folders, *others])
    assert "rounding" not in json.loads(path.read_text()) and small[3:] == []
    architectures.main(["--smoke", "--architectures", *every, *folders])
    again = json.loads(path.read_text())
    assert again["rounding"] == row["rounding"] and small[3:] == ["VGG16"]
    assert again["draw"] == row["draw"] and again["seconds"] >= row["seconds"]
    written = json.loads((tmp_path / "architectures.json").read_text())
    config, results = written["config"], written["results"]
    assert config["samples"] == 20 and config["command"].startswith("architectures --")
    assert list(results) == every
    failed = results.pop("NASNetMobile")
    assert failed.pop("parameters") == "ValueError: No network"
    assert set(failed.values()) == {None}
    moments = "moments: correlation, variance ratio"
    for row in results.values():
        numbers = {k: v for k, v in row.items() if k != moments}
        assert all(isinstance(each, int | float) for each in numbers.values())
        weights = 18 + 24
        np.testing.assert_allclose(row["turned"], weights / (weights + 2 + 3))
        for operation in ("replace", "ensemble", "mc_predict", "draw", "save and load"):
            assert row[operation] < 1e-4
    correlation, ratio = results["VGG16"][moments]
    assert 0.9 < correlation <= 1 and 0.3 < ratio < 3
    correlation, ratio, error = results["VGG19"][moments]
    assert 0.9 < correlation <= 1 and 0.3 < ratio < 3
    assert error.startswith("In layer 'broken")
    page = (tmp_path / "architectures.md").read_text().splitlines()
    *_, none, first, second, _, made = page
    assert none.startswith("| NASNetMobile | ValueError: No network |  |")
    assert re.match(r"\| VGG16 \| 47 \| \d\S* \| 89.4 % \|", first)
    estimated = f"{correlation:.2f}, {ratio:.2f} (estimated)"
    assert f"| {estimated} | {results['VGG19']['seconds']:.0f} |" in second
    assert made.startswith("Made by `python -m examples.architectures --")


class Uncopied(keras.layers.Layer):
    """A layer whose configuration is refused by itself."""

    def get_config(self):
        return {**super().get_config(), "unknown": 1}

    def call(self, inputs):
        return 2 * inputs


def test_errors_of_the_network_itself():
    operations = [architectures.OPERATIONS[k] for k in ("draw", "save and load")]
    x = np.ones((2, 4), "float32")
    uncopied, plain = (
        keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(3)])
        for layer in (Uncopied(), keras.layers.ReLU())
    )
    for operation in operations:
        assert operation(architectures.Subject(plain, x)) < 1e-6
        text = architectures.attempt(operation, architectures.Subject(uncopied, x))
        assert text.startswith("StockError: ")

    def fails(subject):
        raise KeyError("own")

    operation = architectures.as_stock(fails, keras.models.clone_model)
    assert architectures.attempt(operation, architectures.Subject(plain, x)) == (
        "KeyError: 'own'"
    )


def test_networks():
    """The smallest inputs, and logits."""
    model, x = zoo.build("MobileNet")
    assert x.shape == (zoo.ROWS, 32, 32, 3)
    assert model.output.shape == (None, zoo.CLASSES)
    outputs = keras.ops.convert_to_numpy(model(x))
    assert not np.allclose(outputs.sum(axis=-1), 1) and np.all(np.isfinite(outputs))
    assert {"ResNet50", "Xception", "ConvNeXtTiny"} <= set(zoo.names())
