from benchmarks import (
    ensemble,
    integrate_last,
    layer_step,
    moments,
    predict,
    pruning,
    serving,
)


def test_layer_step_runs(capsys):
    layer_step.main(["--repeats", "1"])
    assert "zero_mean, flipout" in capsys.readouterr().out


def test_ensemble_runs(monkeypatch, capsys):
    monkeypatch.setattr(ensemble, "ROWS", 10)
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
    pruning.main(["--repeats", "1"])
    assert "80 % of units and filters" in capsys.readouterr().out


def test_serving_runs(monkeypatch, capsys):
    monkeypatch.setattr(serving, "ROWS", (2,))
    serving.main(["--repeats", "1"])
    assert "serving_default, frozen" in capsys.readouterr().out


def test_predict_runs(monkeypatch, capsys):
    monkeypatch.setattr(predict, "FEATURES", 8)
    monkeypatch.setattr(predict, "report_overhead", lambda rows, repeats: None)
    predict.main(["--repeats", "1", "--calls", "1"])
    assert "1,000 classes" in capsys.readouterr().out


def test_integrate_last_runs(capsys):
    integrate_last.main(["--epochs", "1", "--rows", "20", "--pool", "20"])
    assert "worth, plain samples" in capsys.readouterr().out
