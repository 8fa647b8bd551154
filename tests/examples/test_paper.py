"""The experiments run, in small."""

import json

from examples.paper import mnist_moments


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
