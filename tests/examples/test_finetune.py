import numpy as np
import pytest

from examples import finetune
from tests.backends import once

ROWS = ["as trained", "variance head, backbone frozen", "variance head, all trained"]


@once
def test_smoke(capsys):
    rows = finetune.main(["--smoke"])
    assert list(rows) == ROWS
    *_, title, head, first, second, third, end = capsys.readouterr().out.split("\n")
    assert title == "200 held-out images of digits, 20 samples of the weights"
    for line, (name, row) in zip((first, second, third), rows.items(), strict=True):
        assert line.startswith(name)
        shown = [float(each) for each in line.removeprefix(name).split()]
        np.testing.assert_allclose(shown, list(row.values()), atol=0.01)
        assert len(head.split(", ")) == 1 + len(row) and all(map(np.isfinite, shown))
    assert end == ""


def test_the_frozen_backbone_is_left(monkeypatch):
    """While the head is trained; then all of it is."""
    trained = []

    def train(model, *args):
        trained.append([weight.path for weight in model.trainable_weights])

    monkeypatch.setattr(finetune, "train", train)
    finetune.main(["--smoke"])
    every, head, rest = trained
    assert len(every) == 10 and len(head) == 3  # kernel, bias and log σ²
    assert all("/head/" in f"/{path}" for path in head)
    assert len(rest) == 11 and set(head) < set(rest)


def test_quality():
    """By hand: two of three right, with confidence 0.5, 0.75 and 1."""
    p = [[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.0, 0.0, 1.0]]
    row = finetune.quality(p, np.array([0, 0, 2]))
    np.testing.assert_allclose(row["accuracy"], 200 / 3)
    np.testing.assert_allclose(row["NLL"], np.log([2, 8, 1]).mean(), rtol=1e-6)
    np.testing.assert_allclose(row["ECE"], 100 * (0.5 + 0.75 + 0) / 3, rtol=1e-5)


def test_bad_arguments(capsys):
    with pytest.raises(SystemExit):
        finetune.main(["--epochs", "0"])
    assert "--epochs: must be an integer of at least 1" in capsys.readouterr().err
