"""The benchmarks run, in small."""

import contextlib
import importlib
import io
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks import (
    ensemble,
    integrate_last,
    layer_step,
    moments,
    predict,
    pruning,
    serving,
)
from examples.paper import mnist_pruning


@pytest.fixture
def in_process(monkeypatch):
    """`python -m benchmarks.NAME …` runs here: a process takes seconds to start."""

    def run(command, **_):
        python, option, module, *arguments = command
        assert (python, option) == (sys.executable, "-m")
        with contextlib.redirect_stdout(io.StringIO()) as output:
            importlib.import_module(module).main(arguments)
        return SimpleNamespace(stdout=output.getvalue())

    monkeypatch.setattr(subprocess, "run", run)


def test_layer_step_runs(monkeypatch, capsys):
    monkeypatch.setattr(layer_step, "BATCH", 2)
    layer_step.main(["--repeats", "1"])
    assert "zero_mean, flipout" in capsys.readouterr().out


def test_ensemble_runs(monkeypatch, capsys, in_process):
    monkeypatch.setattr(ensemble, "ROWS", 10)
    monkeypatch.setattr(ensemble, "SAMPLES", (1, 30))
    monkeypatch.setattr(ensemble, "EPOCH_ROWS", 400)
    ensemble.main(["--repeats", "1", "--epochs", "1"])
    output = capsys.readouterr().out
    assert "LeNet-5, all four layers, 10 images" in output
    assert "Peak memory of mc_predict" in output
    assert "MCPredict" in output


def test_moments_runs(monkeypatch, capsys):
    monkeypatch.setattr(moments, "ROWS", 10)
    moments.main(["--repeats", "1"])
    assert "moments, quasi_monte_carlo" in capsys.readouterr().out


def test_pruning_runs(monkeypatch, capsys):
    monkeypatch.setattr(pruning, "ROWS", 10)
    names = (mnist_pruning.UNPRUNED, mnist_pruning.AT_ONCE, "80 % of units and filters")
    few = {name: mnist_pruning.VARIANTS[name] for name in names}
    monkeypatch.setattr(mnist_pruning, "VARIANTS", few)
    pruning.main(["--repeats", "1"])
    assert "80 % of units and filters" in capsys.readouterr().out


def test_serving_runs(monkeypatch, capsys):
    monkeypatch.setattr(serving, "ROWS", (2,))
    serving.main(["--repeats", "1"])
    assert "serving_default, frozen" in capsys.readouterr().out


def test_predict_runs(monkeypatch, capsys, in_process):
    monkeypatch.setattr(predict, "FEATURES", 8)
    monkeypatch.setattr(predict, "report_overhead", lambda rows, repeats: None)
    predict.main(["--repeats", "1", "--calls", "1"])
    assert "1,000 classes" in capsys.readouterr().out


def test_integrate_last_runs(capsys):
    options = ["--epochs", "1", "--rows", "20", "--pool", "20", "--repeats", "1"]
    integrate_last.main(options)
    assert "worth, plain samples" in capsys.readouterr().out
