import random

import keras
import numpy as np
import pytest

from examples import quickstart
from tests.backends import once


def check_screen(output, rows):
    """On a terminal of 80×24: one line of progress, and the answer at the end."""
    lines = output.split("\n")
    assert len(lines) <= 24
    assert max(len(part) for line in lines for part in line.split("\r")) < 80
    (progress,) = (line for line in lines if "\r" in line)
    assert len(progress.split("\r")) == 16
    *_, title, one, mean, average, moments, end = lines
    assert title == "Accuracy on 360 held-out images of digits"
    answer = (one, mean, average, moments)
    for line, (name, value) in zip(answer, rows.items(), strict=True):
        assert line.split() == [*name.split(), f"{100 * value:.2f}", "%"]
    assert end == ""


def test_digits(tmp_path, monkeypatch, capsys):
    """As the README says, with fewer epochs."""
    monkeypatch.chdir(tmp_path)
    rows = quickstart.main(["--epochs", "15"])
    assert rows["one sample"] >= 0.95
    assert rows["mean of the weights"] <= 0.2
    assert rows["average of 20 samples"] >= 0.97
    assert rows["moments, one pass"] >= 0.97
    printed = capsys.readouterr().out
    check_screen(printed, rows)
    output = tmp_path / "quickstart_output"
    assert "evaluation.html are in quickstart_output/" in printed
    page = (output / "evaluation.html").read_text()
    assert "360 examples, 20 samples of the weights" in page
    assert f"{rows['moments, one pass']:.4f}" in page
    assert (output / "model.keras").exists()
    assert (output / "activations.png").stat().st_size > 10_000


@once
def test_a_seed_repeats_the_noise(tmp_path):
    """Whatever has been drawn before."""
    kernels = []
    for before in (1, 2):
        random.seed(before)
        quickstart.main(["--epochs", "1", "--output", str(tmp_path)])
        model = keras.models.load_model(tmp_path / "model.keras")
        kernels.append(model.get_layer("variance_dense").kernel)
        keras.backend.clear_session(free_memory=False)
    np.testing.assert_allclose(*kernels, atol=1e-4)


@once
@pytest.mark.parametrize(
    "arguments",
    [
        ["--posterior", "layer_alpha", "--estimator", "weight_sampling"],
        ["--noise", "bernoulli", "--prune", "0.9"],
        ["--posterior", "additive", "--prune", "0.999"],
    ],
)
def test_other_layers(arguments, tmp_path, rng):
    """On a data set from a folder, of images in colour."""
    images = rng.integers(0, 256, (40, 32, 32, 3), dtype="uint8")
    labels = rng.integers(0, 10, (40, 1))
    np.savez(
        tmp_path / "cifar10.npz",
        x_train=images,
        y_train=labels,
        x_test=images,
        y_test=labels,
    )
    rows = quickstart.main(
        [
            *arguments,
            *("--dataset", "cifar10", "--data-dir", str(tmp_path)),
            *("--epochs", "1", "--output", str(tmp_path)),
        ]
    )
    names = ["one sample", "mean of the weights", "average of 20 samples"]
    assert list(rows) == [*names, "moments, one pass"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--epochs 0", "--epochs: must be an integer of at least 1. Received: 0"),
        ("--epochs 1.5", "--epochs: must be an integer of at least 1. Received: 1.5"),
        ("--prune 90", "--prune: must be a number of at least 0 and below 1. Rec"),
        ("--prune nan", "--prune: must be a number of at least 0 and below 1. Rec"),
        ("--seed -1", "--seed: must be an integer of at least 0 and below 2147483648"),
        ("--dataset cifar100", "--dataset: invalid choice: 'cifar100'"),
        ("--data-dir here", "--data-dir is for other data sets"),
        ("--dataset mnist --data-dir none", "No such file or directory: 'none/mnist"),
        ("--dataset mnist", "mnist could not be downloaded. Without a network"),
        ("--output file", "File exists: 'file'"),
        (
            "--noise uniform --estimator local_reparameterization",
            "is exact for Gaussian noise only",
        ),
    ],
)
def test_bad_arguments(arguments, message, tmp_path, monkeypatch, capsys):
    """They are refused by a line or two, before anything is trained."""

    def offline():
        raise Exception("URL fetch failure")  # as Keras's

    monkeypatch.setattr(keras.datasets.mnist, "load_data", offline)
    monkeypatch.setattr(quickstart, "train", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as error:
        quickstart.main(arguments.split())
    assert error.value.code == 2
    usage, answer, end = capsys.readouterr().err.split("\n")
    assert usage == "usage: python -m examples.quickstart [options]"
    assert message in answer and end == ""


def test_every_option_has_help():
    for action in quickstart.build_parser()._actions:
        assert action.help, action.option_strings
