from benchmarks import layer_step


def test_layer_step_runs(capsys):
    layer_step.main(["--repeats", "1"])
    assert "zero_mean, flipout" in capsys.readouterr().out
