"""The experiments run, in small."""

import json

import matplotlib.image

from examples.paper import (
    kl_curves,
    mnist_activations,
    mnist_histogram,
    mnist_moments,
    mnist_pruning,
)


def test_mnist_moments(tmp_path, capsys):
    options = ["--smoke", "--work", str(tmp_path), "--results", str(tmp_path)]
    mnist_moments.main(options)
    table = capsys.readouterr().out
    assert "quasi_monte_carlo" in table
    written = json.loads((tmp_path / "mnist_moments.json").read_text())
    assert written["config"]["data"] == "digits (smoke run)"
    rows = written["results"]["predictions"]["all four layers"]
    assert len(rows) == 2  # seeds
    for row in rows:
        assert 0 <= row["mean_field"]["accuracy"] <= 100
        assert 0 < row["quasi_monte_carlo"]["nll"] < 5
    # The trained models are found, the table is made again from the JSON
    text = (tmp_path / "mnist_moments.md").read_text()
    (tmp_path / "mnist_moments.md").unlink()
    mnist_moments.main([*options, "--report"])
    assert (tmp_path / "mnist_moments.md").read_text() == text


def test_mnist_pruning(tmp_path, capsys):
    options = ["--smoke", "--work", str(tmp_path), "--results", str(tmp_path)]
    mnist_pruning.main(options)
    table = capsys.readouterr().out
    assert "| 80 % of units and filters |" in table
    results = json.loads((tmp_path / "mnist_pruning.json").read_text())["results"]
    assert [round(point[0], 2) for point in results["curves"][1]] == [
        *mnist_pruning.SPARSITIES
    ]
    assert [row["sparsity"] for row in results["thresholds"]][::2] == [0, 1]
    source, gradual, units = (rows[0] for rows in results["variants"].values())
    assert gradual["parameters"] < source["parameters"] / 5
    assert gradual["bytes"] > source["bytes"]  # the mask
    assert gradual["bytes_compressed"] < source["bytes"] / 5
    assert units["bytes_shrunk"] < source["bytes"] / 3
    assert matplotlib.image.imread(tmp_path / "mnist_pruning.png").std() > 0


def test_kl_curves(tmp_path, capsys):
    kl_curves.main(["--smoke", "--results", str(tmp_path)])
    assert "| log-uniform |" in capsys.readouterr().out
    results = json.loads((tmp_path / "kl_curves.json").read_text())["results"]
    for title, row in results.items():
        assert row["difference"] < (0.01 if title == "log-uniform" else 1e-5)
    assert matplotlib.image.imread(tmp_path / "kl_curves.png").std() > 0


def test_pictures_of_one_model(tmp_path, capsys):
    """Both of the same trained network."""
    options = ["--smoke", "--work", str(tmp_path), "--results", str(tmp_path)]
    mnist_histogram.main(options)
    results = json.loads((tmp_path / "mnist_histogram.json").read_text())["results"]
    assert len(results["single"]) == 8 and len(results["average"]) == 2
    assert all(0 <= x <= 100 for x in results["single"] + results["average"])
    mnist_activations.main(options)
    assert capsys.readouterr().out.count("Training") == 1
    results = json.loads((tmp_path / "mnist_activations.json").read_text())["results"]
    assert [len(medians) for medians in results.values()] == [10] * 4
    for name in ("mnist_histogram", "mnist_activations"):
        assert matplotlib.image.imread(tmp_path / f"{name}.png").std() > 0
