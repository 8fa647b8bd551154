"""The experiments run, in small."""

import json
import math
import shutil

import keras
import matplotlib.image
import numpy as np
import pytest
from scipy import integrate, stats

import keras_variance as kv
from examples.paper import (
    common,
    costs,
    experiment,
    kl_curves,
    mnist_activations,
    mnist_classification,
    mnist_histogram,
    mnist_longer,
    mnist_moments,
    mnist_noises,
    mnist_parameterizations,
    mnist_phase_transition,
    mnist_pruning,
    mnist_starts,
    mnist_tanh,
    overview,
    policies,
    policy_runs,
    reinforcement_learning,
    reinforcement_learning_sweep,
    theorem1,
    toy,
    training_choices,
)
from tests.backends import once

pytestmark = [once, pytest.mark.usefixtures("eagerly")]


def smoke(module, folder, name=None):
    """Results of a smoke run, whose picture, if there is one, is no blank."""
    module.main(["--smoke", "--work", str(folder), "--results", str(folder)])
    name = name or module.NAME
    written = json.loads((folder / f"{name}.json").read_text())
    picture = folder / f"{name}.png"
    if "![" in (folder / f"{name}.md").read_text():
        assert matplotlib.image.imread(picture).std() > 0
    if hasattr(module, "compare"):
        row = module.compare(written["config"], written["results"])
        assert row.item and row.paper and row.ours
    return written["results"]


def test_mnist_moments(tmp_path, capsys):
    options = ["--smoke", "--work", str(tmp_path), "--results", str(tmp_path)]
    mnist_moments.main(options)
    table = capsys.readouterr().out
    assert "quasi_monte_carlo" in table
    written = json.loads((tmp_path / "mnist_moments.json").read_text())
    assert written["config"]["data"] == "digits (smoke run)"
    rows = written["results"]["predictions"]["all four layers"]
    assert len(rows) == 1  # seeds
    for row in rows:
        assert 0 <= row["mean_field"]["accuracy"] <= 100
        assert 0 < row["quasi_monte_carlo"]["nll"] < 5
    # The trained models are found, the table is made again from the JSON
    text = (tmp_path / "mnist_moments.md").read_text()
    (tmp_path / "mnist_moments.md").unlink()
    mnist_moments.main([*options, "--report"])
    assert (tmp_path / "mnist_moments.md").read_text() == text


def test_costs(tmp_path):
    results = smoke(costs, tmp_path)
    for network in results.values():
        assert list(network["train step"]) == list(network["prediction"])
        assert set(network["prediction"][costs.BINARY]) < set(
            network["prediction"][costs.VARIATIONAL]
        )
    # Quality is that of the committed results
    page = (tmp_path / "costs.md").read_text()
    assert "| binary dropout | 20 samples | 99.48 | 0.018 |" in page


def test_mnist_pruning(tmp_path, capsys):
    results = smoke(mnist_pruning, tmp_path)
    assert "| 80 % of units and filters |" in capsys.readouterr().out
    assert [round(point[0], 2) for point in results["curves"][0]] == [
        *mnist_pruning.SPARSITIES
    ]
    assert [row["sparsity"] for row in results["thresholds"]][::2] == [0, 1]
    source, gradual, units = (rows[0] for rows in results["variants"].values())
    assert gradual["parameters"] < source["parameters"] / 5
    assert gradual["bytes"] > source["bytes"]  # the mask
    assert gradual["bytes_compressed"] < source["bytes"] / 5
    assert units["bytes_shrunk"] < source["bytes"] / 3


def test_kl_curves(tmp_path, capsys):
    results = smoke(kl_curves, tmp_path)
    assert "| log-uniform |" in capsys.readouterr().out
    for title, row in results.items():
        assert row["difference"] < (0.01 if title == "log-uniform" else 1e-5)


def test_pictures_of_one_model(tmp_path, capsys):
    """Both of the same trained network."""
    results = smoke(mnist_histogram, tmp_path)
    assert len(results["single"]) == 8 and len(results["average"]) == 2
    assert all(0 <= x <= 100 for x in results["single"] + results["average"])
    results = smoke(mnist_activations, tmp_path)
    assert capsys.readouterr().out.count("Training") == 1
    assert [len(medians) for medians in results.values()] == [10] * 4


def test_toy(tmp_path):
    (result,) = smoke(toy, tmp_path)
    assert result["kind"] == toy.INCOMPLETE  # after two epochs
    assert np.shape(result["stddev"]) == (4, 2)


def test_toy_tells_codes_apart():
    y = np.arange(400) % 4
    levels = {  # by class, of either neuron
        toy.REPEATING: ([0, 5, 50, 500], [500, 50, 5, 0]),
        toy.ORTHOGONAL: ([0, 0, 90, 9], [0, 90, 0, 0]),
        toy.MIXED: ([0, 5, 50, 500], [0, 0, 0, 90]),
        toy.INCOMPLETE: ([0, 0, 0, 90], [0, 0, 9, 0]),
    }
    jitter = np.random.default_rng(0).uniform(0.9, 1.1, (len(y), 1))
    for kind, each in levels.items():
        assert toy.kind(np.array(each).T[y] * jitter, y) == kind
    # Differences that the layers behind can't see
    assert toy.told_apart(np.array([0, 0.2, 0.4, 0.8])[y, None], y) < 0.3


def test_mnist_classification(tmp_path):
    results = smoke(mnist_classification, tmp_path)
    (binary,), (variational,) = results.values()
    assert binary["log_alpha"] == [] and len(variational["log_alpha"]) == 4
    assert binary["1 sample"]["nll"] != binary["mean"]["nll"]  # it drops
    assert variational["moments"]["nll"] < 3


def test_mnist_noises(tmp_path):
    results = smoke(mnist_noises, tmp_path)
    assert list(results) == list(mnist_noises.EPOCHS)
    (row,) = results["weight sampling"]
    assert 0 <= row["gaussian"][mnist_noises.BATCHED] <= 100


def test_other_noise_same_weights():
    model = common.lenet((8, 8, 1), *common.ONE_VARIANCE_LAYER)
    other = common.redrawn(model, noise="bernoulli", estimator="weight_sampling")
    for one, another in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one, another)
    (layer,) = kv.layers.variance_layers(other)
    assert isinstance(layer.noise, kv.noises.Bernoulli)
    assert isinstance(layer.estimator, kv.estimators.WeightSampling)
    # Batch statistics are of a copy
    before = [np.array(weight) for weight in model.weights]
    x, y = np.ones((7, 8, 8, 1), "float32"), np.zeros(7, int)
    mnist_noises.with_batch_statistics(model, x, y)
    for one, another in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(one, another)


def test_moment_matching_is_one_model_for_all_noises():
    model = common.lenet((8, 8, 1), *common.ONE_VARIANCE_LAYER)
    x = np.random.default_rng(0).random((7, 8, 8, 1), "float32")
    first, *others = (
        common.redrawn(
            model, noise=noise, estimator=mnist_noises.matched(noise), seed=0
        )(x, training=True)
        for noise in mnist_noises.NOISES
    )
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_variational_dropout(tmp_path, capsys):
    """Three experiments with the same networks."""
    results = smoke(mnist_phase_transition, tmp_path)
    assert capsys.readouterr().out.count("Training") == 3
    for (followed,) in results.values():
        assert all(len(values) == 2 for values in followed.values())  # epochs
        assert followed["log_alpha"][1] > followed["log_alpha"][0] > 0
    # A second run finds what the first one logged
    assert smoke(mnist_phase_transition, tmp_path) == results

    results = smoke(theorem1, tmp_path)
    changes = np.transpose(results["changes"])[1]
    assert changes[0] > 100 * changes[1] > 100 * changes[2]
    assert changes[2] < theorem1.bounds(results["weights"], 28)[0]
    capsys.readouterr()

    results = smoke(mnist_parameterizations, tmp_path)
    assert capsys.readouterr().out.count("Training") == 2
    one, every = results.values()
    assert "zero_mean" not in every
    (row,) = one["zero_mean"]
    assert row["kl"] == 0 and row["elbo"] == row["data_term"] < 0
    (row,) = one["layer_alpha"]
    assert row["elbo"] == pytest.approx(row["data_term"] - row["kl"])


def test_theorem1_bounds():
    """One weight: ∫ |N(μ, αμ²) − N(0, αμ²)| dw by quadrature."""
    for log_alpha in (-2, 0, 3, 8):
        scale = math.exp(log_alpha / 2)

        def difference(w, scale=scale):
            return abs(stats.norm.pdf(w, 1, scale) - stats.norm.pdf(w, 0, scale))

        limits = (-12 * scale, 0.5, 1 + 12 * scale)
        exact = sum(
            integrate.quad(difference, *limits[k : k + 2], limit=200)[0] for k in (0, 1)
        )
        bound, closed = theorem1.bounds(1, log_alpha)
        assert bound == pytest.approx(exact, rel=1e-6)
        assert bound <= closed
    # D weights: the distance of the means is √D times as long, so α counts as α/D
    assert theorem1.bounds(100, 3 + math.log(100)) == pytest.approx(
        theorem1.bounds(1, 3)
    )


def test_theorem1_scales_the_means_only():
    layers = list(common.STOCK)
    layers[2] = lambda *args, **kwargs: kv.VarianceDense(
        *args, posterior=kv.posteriors.LayerAlpha(1.0), **kwargs
    )
    model = common.lenet((8, 8, 1), *layers)
    x = np.random.default_rng(0).random((20, 8, 8, 1), "float32")
    options = {"likelihood": "categorical", "seed": 0, "verbose": 0}
    expected = kv.mc_predict(model, x, 10, **options).mean
    np.testing.assert_allclose(
        theorem1.predict(model, x, 1.0, 10), expected, rtol=1e-4, atol=1e-6
    )
    changed = theorem1.predict(model, x, -3.0, 10)
    assert np.abs(changed - expected).max() > 1e-3
    # The model is as it was
    np.testing.assert_array_equal(kv.mc_predict(model, x, 10, **options).mean, expected)
    # The limit is the zero-mean network
    (layer,) = kv.layers.variance_layers(model)
    scale = np.array(layer.kernel_scale)
    zero = common.lenet((8, 8, 1), *common.ONE_VARIANCE_LAYER)
    weights = [np.array(w) for w in model.weights if "log_alpha" not in w.path]
    shapes = [w.shape for w in weights]
    weights[shapes.index(scale.shape)] = scale
    zero.set_weights(weights)
    limit = theorem1.predict(model, x, theorem1.INFINITY, 10)
    np.testing.assert_allclose(
        limit, kv.mc_predict(zero, x, 10, **options).mean, rtol=1e-4, atol=1e-6
    )


def test_mnist_starts(tmp_path):
    low, annealed = (rows[0] for rows in smoke(mnist_starts, tmp_path).values())
    assert max(low["log_alpha"]) < -4 and min(annealed["log_alpha"]) > -1


def test_mnist_longer(tmp_path):
    results = smoke(mnist_longer, tmp_path)
    shorter = mnist_longer.shorter()
    assert list(results) == list(shorter) == list(mnist_longer.PAPER)
    for title, (row,) in results.items():
        assert list(row) == list(shorter[title][1]) == list(mnist_longer.PAPER[title])
    folders = ["--work", str(tmp_path), "--results", str(tmp_path)]
    mnist_longer.main(["--smoke", "--tables", "2", *folders])
    written = json.loads((tmp_path / "mnist_longer.json").read_text())
    assert list(written["results"]) == ["table 2, variational dropout"]
    assert written["config"]["command"].endswith(" --smoke --tables 2")


def test_mnist_tanh(tmp_path):
    results = smoke(mnist_tanh, tmp_path)
    assert list(results) == list(mnist_tanh.LAYERS)
    (row,) = results[mnist_tanh.NONE]
    assert row["1 sample"] == row["20 samples"]


def test_tanh_without_biases_is_odd_behind_the_dense_layer():
    layers = common.lenet(
        (8, 8, 1), *common.STOCK, activation=mnist_tanh.tanh, biases=False
    ).layers
    dense = [isinstance(each, keras.layers.Dense) for each in layers].index(True)
    behind = keras.Sequential(layers[dense:])
    x = np.random.default_rng(0).normal(size=(5, 200)).astype("float32")
    np.testing.assert_allclose(behind(-x), -behind(x), rtol=1e-5, atol=1e-6)


def test_training_choices(tmp_path):
    results = smoke(training_choices, tmp_path)
    assert training_choices.ADVISED in results["choices"]
    (row,) = results["log_alpha"]
    assert row["log_alpha"][0] > 0


def test_reinforcement_learning(tmp_path):
    rows = smoke(reinforcement_learning, tmp_path)
    assert len(rows) == 6
    for row in rows:
        low, high = {"CartPole-v1": (1, 200), "Acrobot-v1": (-500, -1)}[
            row["recipe"]["environment"]
        ]
        assert low <= row["final"] <= high
        random = row["recipe"]["policy"] != policies.DETERMINISTIC
        assert all((x > 0) == random for _, x, _ in row["information"])
        assert ("acted" in row) == random
    # A run that is there is not repeated; one that is not has equal scores
    files = sorted(tmp_path.glob("environment-*.json"))
    assert len(files) == 6
    before = [each.read_text() for each in files]
    files[0].unlink()
    again = smoke(reinforcement_learning, tmp_path)
    assert [row["scores"] for row in again] == [row["scores"] for row in rows]
    assert [each.read_text() for each in files[1:]] == before[1:]
    # The sweep takes what is there, too
    assert len(smoke(reinforcement_learning_sweep, tmp_path)) == 4
    # A part of the runs writes no results
    options = ["--smoke", "--work", str(tmp_path), "--results", str(tmp_path / "none")]
    reinforcement_learning.main([*options, "--part", "2", "2"])
    assert not (tmp_path / "none").exists()


def test_when_a_policy_is_good():
    scores = np.repeat([0.0, 1.0, 0.0], 150)
    assert reinforcement_learning.good(scores, 0.5) == 200  # 50 of the last 100
    assert reinforcement_learning.good(scores, 1.0) == 250
    assert reinforcement_learning.good(scores, 1.1) is None
    assert reinforcement_learning.good(scores[:99], 0.0) is None


@pytest.mark.parametrize("name", (*overview.NAMES, *overview.BEYOND))
def test_committed_tables_are_made_of_the_figures(name, tmp_path, capsys):
    for path in experiment.RESULTS.glob(f"{name}.*"):
        shutil.copy(path, tmp_path)
    config = json.loads((tmp_path / f"{name}.json").read_text())["config"]
    module = overview.experiment_of(name, config)
    _, *options = config.get("command", name).split()
    module.main([*options, "--report", "--results", str(tmp_path)])
    committed = (experiment.RESULTS / f"{name}.md").read_text()
    assert (tmp_path / f"{name}.md").read_text() == committed


def test_committed_overview_is_made_of_the_figures():
    committed = (experiment.RESULTS / "README.md").read_text()
    assert "\n".join(overview.lines(experiment.RESULTS)) + "\n" == committed
    for path in experiment.RESULTS.glob("*.json"):
        assert path.stem in (*overview.NAMES, *overview.BEYOND)
        assert f"({path.stem}.md)" in committed


def committed(module):
    path = experiment.RESULTS / f"{module.NAME}.json"
    return json.loads(path.read_text())["results"]


def test_committed_figures_bear_out_the_overview():
    """Its figures are made of the JSONs; its sentences, and these, are not."""
    complete = {row["kind"] for row in committed(toy) if row["average"] >= 99}
    assert complete >= {toy.REPEATING, toy.ORTHOGONAL}

    noises = committed(mnist_noises)
    assert min(mnist_noises.best(noises, x) for x in mnist_noises.NOISES) >= 99.3

    for row in committed(mnist_classification)[mnist_classification.VARIATIONAL]:
        assert np.argmax(row["log_alpha"]) == 2 and row["log_alpha"][0] < -2
        assert row["mean"]["accuracy"] < 12

    for (followed,) in committed(mnist_phase_transition).values():
        assert followed["mean_accuracy"][-1] < 12
        assert followed["ensemble_accuracy"][-1] > 99

    tanh, paper = committed(mnist_tanh), mnist_tanh.PAPER
    for title in ("first convolution", "second convolution"):
        test, training = (
            common.mean_accuracy(tanh[title], column)
            for column in ("20 samples", mnist_tanh.TRAINING)
        )
        assert test < paper[title][1] and test < training

    results = committed(theorem1)
    for log_alpha, mean, _ in results["changes"]:
        assert mean <= theorem1.bounds(results["weights"], log_alpha)[0]


def test_committed_variance_policies_keep_their_noise():
    results = committed(reinforcement_learning)
    for environment in policy_runs.LIMITS:
        for kind in (policies.NOISE, policies.VARIANCE):
            rows = reinforcement_learning.chosen(
                results, environment=environment, policy=kind
            )
            first, *_, last = np.mean([row["information"] for row in rows], axis=0)
            assert (last[1] > 2 * first[1]) == (kind == policies.VARIANCE)
    scores = reinforcement_learning.final_scores(results)
    assert max(scores["CartPole-v1"].values()) >= 190


def test_committed_table_1_has_the_papers_order():
    paper = {name: elbo for name, (elbo, _) in mnist_parameterizations.PAPER.items()}
    one, every = (
        {name: np.mean([row["elbo"] for row in rows]) for name, rows in each.items()}
        for each in committed(mnist_parameterizations).values()
    )
    assert sorted(one, key=one.get) == sorted(paper, key=paper.get)
    assert all(one[name] < paper[name] for name in paper)
    assert set(sorted(every, key=every.get)[:2]) == {"layer_alpha", "neuron_alpha"}
