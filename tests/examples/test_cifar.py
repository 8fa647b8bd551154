"""The experiments on CIFAR run, in small."""

import signal
import subprocess
import sys
import time

import pytest

from examples.paper import (
    cifar,
    cifar_classification,
    cifar_phase_transition,
    cifar_train,
    training,
)
from tests.examples.test_paper import smoke


def test_experiments(tmp_path, capsys):
    """Both with the variance network of the log-uniform prior."""
    results = smoke(cifar_classification, tmp_path)
    assert "| binary dropout |" in capsys.readouterr().out
    (dropout,), (variance,) = results.values()
    assert dropout["log_alpha"] == {} and len(variance["log_alpha"]) == 4
    assert dropout["1 sample"]["nll"] != dropout["mean"]["nll"]  # it drops
    for row in (dropout, variance):
        assert 0 <= row["20 samples"]["accuracy"] <= 100
        assert 0 <= row["20 samples"]["ece"] <= 1

    results = smoke(cifar_phase_transition, tmp_path)
    assert capsys.readouterr().out.count("Training") == 2  # the other priors
    for (log,) in results.values():
        assert len(log["log_alpha_conv5_3"]) == len(log["mean_accuracy"]) == 2
        assert log["log_alpha_dense1"][1] > log["log_alpha_dense1"][0] > 0


def test_cifar100(tmp_path):
    options = ["--smoke", "--work", str(tmp_path), "--results", str(tmp_path)]
    cifar_classification.main(["--dataset", "cifar100", "--epochs", "1", *options])
    page = (tmp_path / "cifar100_classification.md").read_text()
    assert "(81.7)" in page and "--dataset cifar100`" in page


@pytest.mark.parametrize("network", cifar.NETWORKS)
def test_cifar_train(network, tmp_path):
    arguments = [network, "--smoke", "--epochs", "1", "--work", str(tmp_path)]
    cifar_train.main(arguments)
    (log,) = tmp_path.glob("*.csv")
    (row,) = training.read_log(log)
    assert ("log_alpha_conv5_3" in row) == (network == cifar.VARIANCE)
    assert ("val_accuracy" in row) == (network != cifar.VARIANCE)


def test_cifar_train_survives_a_kill(tmp_path):
    """By SIGKILL, once its first epoch has been logged."""
    command = [sys.executable, "-m", "examples.paper.cifar_train", "variance"]
    command += ["--smoke", "--epochs", "3", "--work", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("*.csv")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    cifar_train.main(command[3:])
    (log,) = tmp_path.glob("*.csv")
    assert [row["epoch"] for row in training.read_log(log)] == ["0", "1", "2"]
