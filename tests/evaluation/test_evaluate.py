"""All measures side by side, against the functions that they come from."""

import base64
import html.parser
import io
import json
import shutil
import subprocess

import keras
import numpy as np
import pytest
from matplotlib import image
from sklearn import metrics

import keras_variance as kv
from keras_variance.calibration.temperature import fit
from keras_variance.evaluation.evaluation import PREDICTORS

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def data(rng):
    x = rng.normal(size=(150, 4)).astype("float32")
    return x, (x[:, :3] + rng.normal(size=(150, 3))).argmax(axis=-1)


def classifier(activation=None):
    layer = kv.VarianceDense(
        3,
        activation,
        posterior=kv.posteriors.LayerAlpha(-1.0),
        kernel_initializer="identity",
    )
    return keras.Sequential([keras.Input((4,)), layer])


def evaluated(data, **options):
    x, y = data
    options = {"likelihood": "categorical", "seed": 1, **options}
    return kv.evaluate(classifier(), x, y, **options)


def test_measures_are_those_of_the_predictions(data):
    """Of the two predictors without noise, and so many samples that it is small."""
    x, y = data
    model = classifier()
    options = {"likelihood": "categorical", "seed": 1}
    found = kv.evaluate(model, x, y, samples=400, ood=3 * x, **options).measures
    means = np.asarray(keras.ops.softmax(x @ np.asarray(model.layers[0].kernel)))
    moments = kv.moment_predict(model, x, likelihood="categorical", verbose=0)
    samples = kv.mc_predict(model, x, 400, likelihood="categorical", verbose=0)
    for name, p, atol in (
        ("means", means, 1e-5),
        ("moments", moments.mean, 1e-5),
        ("samples", samples.mean, 0.03),
    ):
        p = p.astype("float64")
        expected = {
            "accuracy": metrics.accuracy_score(y, p.argmax(axis=-1)),
            "nll": metrics.log_loss(y, p / p.sum(axis=-1, keepdims=True)),
            "brier": np.square(p - np.eye(3)[y]).sum(axis=-1).mean(),
            "ece": float(kv.metrics.ExpectedCalibrationError()(y, p)),
        }
        measures = {key: found[name][key] for key in expected}
        assert measures == pytest.approx(expected, abs=atol + 0.04 * (atol > 0.01))
    expected = moments.mutual_information.mean()
    assert found["moments"]["mutual_information"] == pytest.approx(expected, rel=1e-4)
    assert "mutual_information" not in found["sample"]
    outside = kv.moment_predict(model, 3 * x, likelihood="categorical", verbose=0)
    scores = kv.metrics.ood_metrics(moments.entropy, outside.entropy)
    assert found["moments"]["auroc_entropy"] == pytest.approx(scores.auroc)
    for each in found.values():
        parts = each["reliability"] - each["resolution"] + each["uncertainty"]
        assert parts == pytest.approx(each["brier"], rel=1e-4)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_calibrated(activation, data):
    """That of logits averaged over samples, as `temperature_scaling`'s."""
    x, y = data
    model = classifier(activation)
    options = {"likelihood": "categorical", "seed": 1, "samples": 400}
    own, rest = (x[:75], y[:75]), (x[75:], y[75:])
    found = kv.evaluate(model, *rest, calibration=own, **options)
    z = x @ np.asarray(model.layers[0].kernel)  # the average of many logits
    if activation is None:
        assert found.temperature == pytest.approx(fit(z[:75, None], y[:75]), rel=0.1)
    scaled = kv.calibration.temperature_scaling(model, *own, 400, "categorical", seed=1)
    (temperature,) = (v for v in scaled.variables if v.path.endswith("/temperature"))
    assert found.temperature == pytest.approx(float(temperature), rel=0.1)
    p = scaled.predict(rest[0], verbose=0)
    nll = -np.log(p[np.arange(75), rest[1]]).mean()
    assert found.measures["calibrated"]["nll"] == pytest.approx(nll, rel=0.05)


def test_numbers(rng):
    x = rng.normal(size=(200, 1)).astype("float32")
    y = 2 * x[:, 0] + rng.normal(size=200)
    layer = kv.VarianceDense(2, posterior=kv.posteriors.LayerAlpha(-3.0))
    model = keras.Sequential([keras.Input((1,)), layer])
    layer.kernel.assign([[2.0, 0.0]])
    found = kv.evaluate(model, x, y, likelihood="gaussian", seed=1).measures["moments"]
    prediction = kv.moment_predict(model, x, likelihood="gaussian", verbose=0)
    mean, stddev = prediction.mean[:, 0], prediction.stddev[:, 0]
    z = np.abs(y - mean) / stddev
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((y - mean) ** 2)), rel=1e-4)
    nll = np.mean(z**2 / 2 + np.log(stddev) + np.log(2 * np.pi) / 2)
    assert found["nll"] == pytest.approx(nll, rel=1e-4)
    assert found["coverage_90"] == pytest.approx(np.mean(z <= 1.6448536), abs=1e-9)
    assert found["width_90"] == pytest.approx(2 * 1.6448536 * stddev.mean(), rel=1e-4)


def test_a_seed_repeats_it(data):
    first, second, other = (evaluated(data, seed=seed).to_dict() for seed in (1, 1, 2))
    assert first["measures"]["samples"] == second["measures"]["samples"]
    assert first["measures"]["sample"] != other["measures"]["sample"]


def test_table_and_dict(data):
    evaluation = evaluated(data, predictors=["sample", "samples"])
    first, titles, *rows = str(evaluation).splitlines()
    assert first == "150 examples" and titles.split() == [
        "one",
        "sample",
        "20",
        "samples",
    ]
    (row,) = (row for row in rows if row.startswith("accuracy ↑"))
    values = [f"{each['accuracy']:.4f}" for each in evaluation.measures.values()]
    assert row.split()[2:] == values
    assert json.loads(json.dumps(evaluation.to_dict())) == evaluation.to_dict()
    assert evaluation.to_dict()["measures"].keys() == {"sample", "samples"}


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.references, self.images, self.open, self.texts = [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert tag not in ("script", "link", "iframe", "object")
        if tag == "img":
            assert attributes["alt"]
            self.images.append(attributes["src"])
        else:
            self.references += [attributes.get("src"), attributes.get("href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_page(data, tmp_path):
    x, _ = data
    evaluation = evaluated(data, ood=3 * x)
    path = evaluation.to_html(tmp_path / "report.html")
    text = path.read_text()
    page = Page()
    page.feed(text)
    assert not page.open and not any(page.references)
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert len(page.images) == 3
    for source in page.images:
        kind, _, encoded = source.partition(",")
        assert kind == "data:image/png;base64"
        pixels = image.imread(io.BytesIO(base64.b64decode(encoded)))
        assert pixels.shape[:2] == (600, 800) and pixels[..., :3].std() > 0.05
    for title in ("one sample", "means", "20 samples", "moments"):
        assert title in page.texts
    for each in evaluation.measures.values():
        assert f"{each['nll']:.4f}" in page.texts


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_page_in_a_browser(data, tmp_path):
    """Nothing is wider than a phone but what scrolls by itself."""
    path = evaluated(data).to_html(tmp_path / "report.html")
    script = "<script>document.title = document.body.scrollWidth</script>"
    path.write_text(path.read_text().replace("</body>", script + "</body>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--window-size=500,900", f"--user-data-dir={tmp_path}", path.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    width = int(result.stdout.partition("<title>")[2].partition("<")[0])
    assert 300 < width <= 500


def test_bad_arguments(data):
    x, y = data
    for bad in (x[:, :3], [x, x], np.full((0, 4), 1.0)):
        with pytest.raises(ValueError, match=r"Argument `ood` must"):
            evaluated(data, ood=bad)
    with pytest.raises(ValueError, match=r"`calibration` must be a pair"):
        evaluated(data, calibration=x)
    with pytest.raises(ValueError, match=r"`y` must be labels of two classes"):
        evaluated(data, calibration=(x, 0 * y))
    with pytest.raises(ValueError, match=r"`predictors` must be"):
        evaluated(data, predictors=["all"])
    assert PREDICTORS == ("sample", "means", "samples", "moments")
