from keras_variance import __main__ as demo


def test_demo_shows_that_the_mean_is_at_chance(capsys):
    demo.main(["--epochs", "3"])
    lines = capsys.readouterr().out.splitlines()[-4:]
    accuracy = {line[2:24].strip(): float(line.split()[-2]) for line in lines}
    assert accuracy["mean of the weights"] < 20 < 60 < accuracy["one sample"]
    assert accuracy["average of 20 samples"] > accuracy["one sample"] - 5
    assert abs(accuracy["moments, one pass"] - accuracy["average of 20 samples"]) < 5
