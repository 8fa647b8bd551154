"""The experiments on CIFAR run, in small."""

import json
import signal
import subprocess
import sys
import time

import pytest

from examples.paper import (
    cifar,
    cifar_adversarial,
    cifar_classification,
    cifar_ensembles,
    cifar_parameterizations,
    cifar_phase_transition,
    cifar_pruning,
    cifar_train,
    training,
)
from tests import backends
from tests.examples.test_paper import smoke


def smoke_at_width(module, folder):
    return smoke(module, folder, f"{module.NAME}_width{cifar.SMOKE_WIDTH:g}")


@backends.once
@pytest.mark.usefixtures("shallow", "eagerly")
def test_experiments(tmp_path, capsys):
    """Both with the variance network of the log-uniform prior."""
    results = smoke_at_width(cifar_classification, tmp_path)
    assert "| binary dropout |" in capsys.readouterr().out
    (dropout,), (variance,) = results.values()
    assert dropout["log_alpha"] == {} and len(variance["log_alpha"]) == 4
    assert dropout["1 sample"]["nll"] != dropout["mean"]["nll"]  # it drops
    for row in (dropout, variance):
        assert 0 <= row["20 samples"]["accuracy"] <= 100
        assert 0 <= row["20 samples"]["ece"] <= 1

    results = smoke_at_width(cifar_phase_transition, tmp_path)
    assert capsys.readouterr().out.count("Training cifar") == 2  # the other priors
    for (log,) in results.values():
        assert len(log["log_alpha_conv5_3"]) == len(log["mean_accuracy"]) == 2
        assert log["log_alpha_dense1"][1] > log["log_alpha_dense1"][0] > 0

    results = smoke_at_width(cifar_parameterizations, tmp_path)
    assert capsys.readouterr().out.count("Training cifar") == 2  # the other posteriors
    for (row,) in results.values():
        assert abs(row["elbo"] - (row["data_term"] - row["kl"])) < 1

    (pruned,) = smoke_at_width(cifar_pruning, tmp_path)
    assert "Training cifar" not in capsys.readouterr().out  # the network is there
    assert [round(row["sparsity"], 1) for row in pruned["curve"][:3]] == [0, 0.5, 0.8]
    assert pruned["by_ratio"][-1]["sparsity"] == 1
    parameters = [row["parameters"] for row in pruned["units"]]
    assert parameters == sorted(parameters, reverse=True)

    results = smoke_at_width(cifar_ensembles, tmp_path)
    output = capsys.readouterr().out
    assert output.count("Training cifar") == 1  # deterministic
    assert "| variance |" in output
    for row in results.values():
        assert row["members"] == [row["ensemble"]] and row["seconds"] > 0

    results = smoke_at_width(cifar_adversarial, tmp_path)
    assert capsys.readouterr().out.count("Training cifar") == 1  # on such images
    assert [len(rates) for rates in results["figure"].values()] == [2] * 5
    assert tuple(results["levels"]) == cifar_adversarial.SWEPT
    assert all(0 <= row["accuracy"] <= 100 for row in results["attacks"])


def test_cifar100_page(tmp_path):
    """It has the results file, the command and the paper's numbers of CIFAR-100."""
    metrics = {"accuracy": 50.0, "nll": 1.0, "ece": 0.1}
    columns = dict.fromkeys(cifar_classification.COLUMNS, metrics)
    rows = [{**columns, "log_alpha": {"log_alpha_dense1": 3.0}}]
    config = {"dataset": "cifar100", "data": "CIFAR-100", "width": 0.25}
    config["command"] = "cifar_classification --dataset cifar100"
    written = {
        "config": {**config, "epochs": 40, "seeds": [0], "recipes": []},
        "results": dict.fromkeys(cifar_classification.METHODS, rows),
    }
    path = tmp_path / "cifar100_classification_width0.25.json"
    path.write_text(json.dumps(written))
    options = ["--dataset", "cifar100", "--report", "--results", str(tmp_path)]
    cifar_classification.main(options)
    page = path.with_suffix(".md").read_text()
    assert "50.00 (81.7)" in page
    assert "cifar_classification --dataset cifar100`" in page


@pytest.mark.usefixtures("shallow", "eagerly")
def test_cifar_train(tmp_path):
    arguments = ["variance", "--prior", "ard", "--smoke", "--epochs", "1"]
    cifar_train.main([*arguments, "--work", str(tmp_path)])
    (log,) = tmp_path.glob("cifar10-variance-layer_alpha-ard-*.csv")
    (row,) = training.read_log(log)
    assert 0 <= float(row["val_ensemble_accuracy"]) <= 1


@backends.once
def test_cifar_train_survives_a_kill(tmp_path):
    """By SIGKILL, once its first epoch has been logged."""
    command = [sys.executable, "-m", "examples.paper.cifar_train", "deterministic"]
    command += ["--smoke", "--epochs", "3", "--work", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("*.csv")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    cifar_train.main(command[3:])
    (log,) = tmp_path.glob("*.csv")
    rows = training.read_log(log)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert all(0 <= float(row["val_accuracy"]) <= 1 for row in rows)
