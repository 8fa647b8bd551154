import numpy as np
import pytest

from examples import quickstart


@pytest.mark.filterwarnings("ignore:All weights of the model")  # that's the point
def test_digits(tmp_path, capsys):
    """As the README says, with fewer epochs."""
    rows = quickstart.main(["--epochs", "15", "--output", str(tmp_path)])
    assert rows["one sample"] >= 0.95
    assert rows["mean of the weights"] <= 0.2
    assert rows["average of 20 samples"] >= 0.97
    assert rows["moments, one pass"] >= 0.97
    assert "Accuracy on 360 held-out rows of digits" in capsys.readouterr().out
    assert (tmp_path / "model.keras").exists()
    assert (tmp_path / "activations.png").stat().st_size > 10_000


@pytest.mark.filterwarnings("ignore:All weights of the model")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--posterior", "layer_alpha", "--estimator", "weight_sampling"],
        ["--noise", "bernoulli", "--prune", "0.9"],
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
