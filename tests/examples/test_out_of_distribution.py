import json

import keras
import matplotlib.image
import numpy as np
import pytest
from scipy import ndimage, special

import keras_variance as kv
from examples import out_of_distribution
from examples.networks import lenet
from examples.paper import cifar, common
from examples.predictors import MOMENTS, OFF, ROWS, SAMPLES, SCORES, Predictor, Row
from tests import backends

SHAPE = (8, 8, 1)


def smoke(folder, *arguments):
    options = ["--smoke", "--work", str(folder), "--results", str(folder)]
    out_of_distribution.main([*options, *arguments])


@backends.once
@pytest.mark.usefixtures("eagerly")
def test_smoke(tmp_path, monkeypatch, capsys):
    few = {"rotation": (0, 45, 90), "noise": (0, 0.5)}
    monkeypatch.setitem(out_of_distribution.SHIFTS, "mnist", few)
    smoke(tmp_path)
    assert capsys.readouterr().out.count("Training lenet") == 4
    page = (tmp_path / "out_of_distribution_mnist.md").read_text()
    for row in ROWS:
        assert page.count(f"| {row.title} |") == 3
    picture = matplotlib.image.imread(tmp_path / "out_of_distribution_mnist.png")
    assert picture.std() > 0
    written = json.loads((tmp_path / "out_of_distribution_mnist.json").read_text())
    assert len(written["config"]["recipes"]) == 4
    results = written["results"]
    assert [len(results[row.title]) for row in ROWS] == [2] + 8 * [1]
    for (log, *_), row in zip(results.values(), ROWS, strict=True):
        (scores,) = log["detection"].values()
        missing = {*SCORES} - {*scores}
        if row.by == MOMENTS:
            assert missing == {"energy"}
        elif row.by == SAMPLES or row.together:
            assert not missing
        else:
            assert missing == {"mutual_information"}
        first = [levels[0] for levels in log["shifts"].values()]
        assert first[0] == first[1]  # no shift is no shift
        assert len(log["shifts"]["rotation"]) == 3
    # Networks and numbers are found again
    smoke(tmp_path)
    assert "Training lenet" not in capsys.readouterr().out
    again = json.loads((tmp_path / "out_of_distribution_mnist.json").read_text())
    assert again["results"] == results
    assert again["config"]["recipes"] == written["config"]["recipes"]


@pytest.mark.skipif(backends.BACKEND == "jax", reason="minutes of compilation")
@pytest.mark.usefixtures("shallow", "eagerly")
def test_smoke_on_images_in_color(tmp_path, monkeypatch):
    """Of two rows, with noise and without."""
    rows = Row(cifar.DETERMINISTIC), Row(cifar.VARIANCE, 1)
    monkeypatch.setattr(out_of_distribution, "ROWS", rows)
    monkeypatch.setattr(out_of_distribution, "detection_conclusion", lambda _: [])
    monkeypatch.setitem(out_of_distribution.SHIFTS, "cifar10", {"noise": (0, 0.1)})
    smoke(tmp_path, "--dataset", "cifar10", "--outside", "tiny_imagenet")
    page = (tmp_path / "out_of_distribution_cifar10.md").read_text()
    assert "## noise (smoke run) and Tiny-ImageNet" in page
    assert "cats, dogs, frogs" in page and "CIFAR-100" not in page


def network(**options):
    variance = options.pop("variance", False)
    layers = common.ONE_VARIANCE_LAYER if variance else common.STOCK
    model = lenet(SHAPE, *layers, **options)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.usefixtures("eagerly")
def test_scores_without_noise(rng):
    """Against SciPy, of one network and of two that are averaged."""
    models = [network(), network()]
    x = rng.random((6, *SHAPE), "float32")
    logits = np.stack([model.predict(x, verbose=0) for model in models]).astype(float)
    for count in (1, 2):
        row = Row(cifar.DETERMINISTIC, OFF, count == 2)
        scores = Predictor(row, models[:count]).scores(x)
        p = special.softmax(logits[:count], axis=-1)
        entropy = special.entr(p.mean(axis=0)).sum(axis=-1)
        expected = {
            "max_probability": 1 - p.mean(axis=0).max(axis=-1),
            "entropy": entropy,
            "energy": -special.logsumexp(logits[:count], axis=-1).mean(axis=0),
        }
        if count == 2:
            each = special.entr(p).sum(axis=-1).mean(axis=0)
            expected["mutual_information"] = entropy - each
        assert {*scores} == {*expected}
        for name, values in expected.items():
            # a difference of entropies, which float32 rounds
            atol = 1e-5 if name == "mutual_information" else 1e-6
            np.testing.assert_allclose(scores[name], values, rtol=1e-4, atol=atol)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("kind", [cifar.DROPOUT, cifar.VARIANCE])
def test_scores_with_noise(kind, rng):
    """As `ood_score` of many samples has them; moments and samples agree."""
    model = network(variance=True) if kind == cifar.VARIANCE else network(dropout=0.5)
    x = rng.random((6, *SHAPE), "float32")
    few = Predictor(Row(kind, SAMPLES), [model]).scores(x)
    moments = Predictor(Row(kind, MOMENTS), [model]).scores(x)
    options = {"likelihood": "categorical", "dropout": kind == cifar.DROPOUT}
    for score, values in few.items():
        many = kv.calibration.ood_score(model, score, 1000, **options)
        exact = many.predict(x, verbose=0)
        np.testing.assert_allclose(values, exact, rtol=0.5, atol=0.02)
        if score in moments:
            np.testing.assert_allclose(moments[score], exact, rtol=0.2, atol=0.01)


def test_dropout_that_is_off_draws_nothing(rng):
    model, x = network(dropout=0.5), rng.random((6, *SHAPE), "float32")
    p = Predictor(Row(cifar.DROPOUT, OFF), [model]).predict(x).mean
    expected = special.softmax(model.predict(x, verbose=0), axis=-1)
    np.testing.assert_allclose(p, expected, rtol=1e-5)
    one = Predictor(Row(cifar.DROPOUT, 1), [model]).predict(x).mean
    assert np.abs(one - expected).max() > 1e-4


def test_rotated(rng):
    """By a right angle pixels only move; each image and channel by itself."""
    x = rng.random((3, 9, 9, 2), "float32")
    turned = out_of_distribution.rotated(x, 90)
    np.testing.assert_allclose(turned, np.rot90(x, axes=(1, 2)), atol=1e-6)
    one = ndimage.rotate(x[1, :, :, 0], 30, reshape=False, order=1)
    turned = out_of_distribution.rotated(x, 30)[1, :, :, 0]
    np.testing.assert_allclose(turned, one, atol=1e-6)
    assert np.array_equal(out_of_distribution.rotated(x, 0), x)


def test_noisy():
    x = np.full((50, 8, 8, 3), 0.5, "float32")
    for level in (0.05, 0.1):
        noise = out_of_distribution.noisy(x, level) - x
        assert noise.std() == pytest.approx(level, rel=0.03)
    assert np.abs(out_of_distribution.noisy(x, 9) - 0.5).max() == 0.5  # clipped
    np.testing.assert_array_equal(out_of_distribution.noisy(x, 0), x)


def test_data_sets_that_do_not_fit(capsys):
    with pytest.raises(SystemExit):
        out_of_distribution.main(["--outside", "cifar100"])
    assert "must be some of ('notmnist',) for mnist" in capsys.readouterr().err


def test_conclusion():
    known = {
        ("dropout, 20 samples", "entropy"): [90.0, 92.0],
        ("dropout, 20 samples", "mutual_information"): [95.0, 95.0],
        ("variance, 20 samples", "entropy"): [80.0],
        ("variance, 20 samples", "mutual_information"): [70.0],
        ("dropout, moments", "entropy"): [92.0, 92.0],
        ("dropout, moments", "mutual_information"): [95.5, 95.5],
        ("variance, moments", "entropy"): [80.25],
        ("variance, moments", "mutual_information"): [69.5],
    }
    known |= {(title, "max_probability"): [1.0] for title, _ in known}
    text = " ".join(out_of_distribution.detection_conclusion(known))
    assert "Highest AUROC: dropout, moments, by mutual information." in text
    assert "up to 1.4 points" in text
    assert "better than entropy in 2 of 4 rows" in text
    assert "change AUROC by at most 1.0 points" in text
