"""The benchmarks run, in small."""

import contextlib
import importlib
import io
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import (
    ensemble,
    evaluate,
    integrate_last,
    layer_step,
    layers,
    moments,
    page,
    predict,
    pruning,
)
from benchmarks.peers import run as peers
from examples.paper import mnist_pruning
from examples.paper.training import Backup
from tests.backends import BACKEND, once

if BACKEND == "tensorflow":
    from benchmarks import serving, soak

pytestmark = once


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


def test_layers_runs(monkeypatch, capsys):
    """Of two layers and a network."""
    monkeypatch.setattr(layers, "BATCH", 2)
    monkeypatch.setattr(layers, "ROWS", 2)
    for name, kept in (("LAYERS", ("Embedding", "LSTM")), ("NETWORKS", ("ResNet-20",))):
        few = {key: getattr(layers, name)[key] for key in kept}
        monkeypatch.setattr(layers, name, few)
    layers.main(["--repeats", "1"])
    output = capsys.readouterr().out
    assert "LSTM(256,), inputs (2, 32, 128)" in output
    assert "additive, all" in output


@pytest.mark.parametrize(
    ("name", "parameters"),  # as the papers count them, but for BatchNorm and positions
    [("ResNet-20", 0.27e6), ("tiny vision transformer", 5.4e6)],
)
def test_networks_are_as_large_as_their_papers_say(name, parameters):
    model = layers.NETWORKS[name][0]()
    assert model.count_params() == pytest.approx(parameters, rel=0.03)


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


def test_evaluate_runs(monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "ROWS", 10)
    evaluate.main(["--repeats", "1"])
    assert "evaluate, without moments" in capsys.readouterr().out


def test_serving_runs(monkeypatch, capsys):
    monkeypatch.setattr(serving, "ROWS", (2,))
    serving.main(["--repeats", "1"])
    assert "serving_default, frozen" in capsys.readouterr().out


def test_page(monkeypatch, tmp_path, capsys):
    printed = iter(("2.00 ×", "1.00 ×", "3.00 ×"))
    monkeypatch.setattr(page, "output", lambda name: f"{name}: {next(printed)}")
    page.main(["--only", "moments", "predict"], tmp_path)
    page.main(["--only", "predict"], tmp_path)
    assert "predict: 3.00 ×" in capsys.readouterr().out
    text = (tmp_path / "benchmarks.md").read_text()
    assert "$ python -m benchmarks.moments\nmoments: 2.00 ×" in text
    assert "predict: 3.00 ×" in text and "predict: 1.00 ×" not in text
    assert text.index("## What `mc_predict`") < text.index("## Time of `propagate_mo")


def test_page_of_peers(monkeypatch, tmp_path):
    """A row per library, wrong numbers in bold, and who is best at what."""

    def answer(step, z=2.0, kl=1.0):
        return {
            "versions": "1.0",
            "step": {"ratio": step},
            "samples": {"ratio": 20.0 / step, "memory_mb": 50.0 * step},
            "moments": {"z": z, "right": z < 5, "noise": "shared"},
            "kl": {"ratio": kl, "weights": 1200},
            "half": {"error": "TypeError: of precision"},
            "saving": {"missing": "no files"},
        }

    results = {
        "keras_variance, additive": answer(1.25),
        "blitz": answer(1.2, z=9.0),
        "bayesian-torch": answer(1.5, kl=1 / 1200),
        "torch-uncertainty": {"not_installed": "ImportError: no such file"},
    }
    monkeypatch.setattr(peers, "ask", lambda *_: results[next(names)])
    monkeypatch.setattr(peers, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    names = iter(results)
    peers.main(["--peers", *results])
    text = (tmp_path / "docs" / "peers.md").read_text()
    assert "| bayesian-torch | 1.0 | 1.50 × | 13.3 × | 75 | yes, shared noise |" in text
    assert "| **the mean** over weights | TypeError |  |" in text
    assert "| 1.20 × | 16.7 × | 60 | **no**, shared noise | yes |" in text
    assert "not run: ImportError: no such file" in text
    assert "train step is that of blitz (1.20 ×), the cheapest 20 samples" in text
    assert (tmp_path / "docs" / "peers.png").stat().st_size > 10_000


def test_predict_runs(monkeypatch, capsys, in_process):
    monkeypatch.setattr(predict, "FEATURES", 8)
    monkeypatch.setattr(predict, "report_overhead", lambda rows, repeats: None)
    predict.main(["--repeats", "1", "--calls", "1"])
    assert "1,000 classes" in capsys.readouterr().out


def test_integrate_last_runs(capsys):
    options = ["--epochs", "1", "--rows", "20", "--pool", "20", "--repeats", "1"]
    integrate_last.main(options)
    assert "worth, plain samples" in capsys.readouterr().out


def test_soak_runs(capsys):
    """One child of each kind is killed; no time for the growth of memory."""
    result = soak.main(["--minutes", "0"])
    output = capsys.readouterr().out
    assert not result.faults and not result.losses, output
    assert "kills       2: train 1, export 1" in output
    assert result.last["train"] > 0 and result.last["export"] > 0
    assert "losses      0" in output


def test_soak_finds_what_is_lost(tmp_path):
    """A backup and an export that are gone, or broken, after they were reported."""
    rounds = soak.Rounds(tmp_path, np.random.default_rng(0))

    def killed(kind, *reported):
        child = kind.__new__(kind)
        child.folder = tmp_path / kind.name
        child.reported = lambda: list(reported)
        return child

    backup = Backup(tmp_path / "train")
    rounds.model.fit(
        rounds.x, rounds.y, soak.BATCH_SIZE, epochs=2, callbacks=[backup], verbose=0
    )
    assert killed(soak.Trainer, 0, 1, 2).verify(rounds, 0) == 2
    with pytest.raises(soak.Lost, match="a backup of epoch 2, not 3"):
        killed(soak.Trainer, 0, 3).verify(rounds, 0)
    with pytest.raises(soak.Lost, match="resumed at epoch 0, after 2"):
        killed(soak.Trainer, 0, 2).verify(rounds, 2)
    backup.path.write_bytes(backup.path.read_bytes()[:-1])
    with pytest.raises(UserWarning, match="is broken"):
        killed(soak.Trainer, 0, 2).verify(rounds, 0)

    folder = soak.kv.export(rounds.model, tmp_path / "export", 2)
    assert killed(soak.Exporter, 1).verify(rounds, 0) == 1
    with pytest.raises(soak.Lost, match=r"versions \[2\] are gone"):
        killed(soak.Exporter, 1, 2).verify(rounds, 0)
    (folder / "variables" / "variables.index").unlink()
    with pytest.raises(Exception, match=r"variables"):
        killed(soak.Exporter, 1).verify(rounds, 0)


def test_growth_of_memory():
    level = [700.0] * 5 + [800.0] * 20
    assert soak.growth(level) == 0
    assert soak.growth([x + 2 * k for k, x in enumerate(level)]) == 30
    assert soak.growth([700.0]) == 0
