"""Statistics of variance layers, and the table that shows them."""

import keras
import numpy as np
import pytest
from scipy import stats

import keras_variance as kv
from keras_variance.inference.summaries import layer_statistics, summary
from keras_variance.layers import variance_layers
from tests.layers.cases import CASES, POSTERIORS, build


def new_layer(kernel=None, phi=None, **arguments):
    layer = kv.VarianceDense(4, **arguments)
    layer.build((None, 50))
    if kernel is not None:
        layer.kernel.assign(kernel)
    if phi is not None:
        layer.phi.assign(phi)
    return layer


def table(model, **arguments):
    """The table as a list of lines, from the one call of `print_fn`."""
    texts = []
    summary(model, print_fn=texts.append, **arguments)
    (text,) = texts
    return text.splitlines()


def model_of(*layers, **arguments):
    return keras.Sequential([keras.Input((50,)), *layers], **arguments)


def empirical_quantiles(values):
    """The least value with at least that share of the values up to it."""
    ordered = np.sort(values, axis=None)
    shares = np.arange(1, ordered.size + 1) / ordered.size
    return [ordered[np.argmax(shares >= q - 1e-9)] for q in (0.05, 0.5, 0.95)]


def moments(layer, posterior):
    """μ and σ of the weights, by the table of the posteriors."""
    theta = np.float64(layer.kernel)
    if posterior == "zero_mean":
        return 0 * theta, np.abs(theta)
    variance = np.exp(np.float64(layer.phi)) * np.ones_like(theta)
    return theta, np.sqrt(variance if posterior == "additive" else variance * theta**2)


@pytest.mark.parametrize("name", ["dense", "conv2d_transpose", "depthwise_conv2d"])
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_quantiles_and_log_alpha(posterior, name, rng):
    layer = build(CASES[name], rng, posterior=posterior)
    mean, stddev = moments(layer, posterior)
    statistics = layer_statistics(layer)
    if posterior == "zero_mean":
        assert statistics.quantity == "sigma"
        assert statistics.log_alpha == np.inf
        values = stddev
    else:
        assert statistics.quantity == "log_alpha"
        log_alpha = np.log(np.sum(stddev**2) / np.sum(mean**2))
        np.testing.assert_allclose(statistics.log_alpha, log_alpha, rtol=1e-5)
        values = np.log(stddev**2 / mean**2)
    np.testing.assert_allclose(
        statistics.quantiles, empirical_quantiles(values), rtol=1e-4
    )
    assert statistics.sparsity == 0
    assert statistics.kl is None


def test_quantiles_are_over_weights():
    """An α of a unit counts as often as the unit has weights that are left."""
    kernel = np.ones((50, 4))
    kernel[:, 1:] = 0
    kernel[:9, 1] = 1  # 50 weights with log α = 1, 9 with log α = 2
    layer = new_layer(kernel, [[1, 2, 3, 4]], posterior="neuron_alpha")
    assert layer_statistics(layer).quantiles == (1, 1, 2)
    layer.kernel.assign(np.where(np.arange(50)[:, None] < 2, 1, kernel))
    # now 2 more each with log α = 3 and 4, 63 in all
    assert layer_statistics(layer).quantiles == (1, 1, 3)


def test_log_alpha_of_layer_alpha_is_the_learned_one(rng):
    kernel = rng.normal(size=(50, 4))
    layer = new_layer(kernel, [[2.5]], posterior="layer_alpha")
    np.testing.assert_allclose(layer_statistics(layer).log_alpha, 2.5, rtol=1e-6)


def test_zero_mean_pruned(rng):
    kernel = rng.normal(size=(50, 4))
    kernel[10:] = 0
    statistics = layer_statistics(new_layer(kernel))
    assert statistics.sparsity == 0.8
    np.testing.assert_allclose(
        statistics.quantiles, empirical_quantiles(np.abs(kernel[:10])), rtol=1e-6
    )
    assert statistics.verdict == "variance"


def test_additive_is_pruned_where_mean_and_scale_are_zero():
    kernel, phi = np.ones((50, 4)), np.full((50, 4), -2.0)
    kernel[:20] = 0  # no mean
    phi[10:30] = -np.inf  # no variance: in 10 rows neither
    statistics = layer_statistics(new_layer(kernel, phi, posterior="additive"))
    np.testing.assert_allclose(statistics.sparsity, 0.2)
    assert statistics.quantiles[:2] == (-np.inf, -2)
    log_alpha = np.log(30 * np.exp(-2) / 30)
    np.testing.assert_allclose(statistics.log_alpha, log_alpha, rtol=1e-6)


@pytest.mark.parametrize("posterior", ["zero_mean", "layer_alpha", "weight_alpha"])
def test_all_weights_pruned(posterior):
    layer = new_layer(np.zeros((50, 4)), posterior=posterior)
    statistics = layer_statistics(layer)
    assert statistics.sparsity == 1
    assert np.isnan([*statistics.quantiles, statistics.log_alpha]).all()
    assert statistics.verdict == "none"
    assert any("100.0" in line for line in table(model_of(layer)))


@pytest.mark.parametrize(
    "log_alpha, verdict",
    [(-5, "mean"), (2.9, "mean"), (3.1, "mixed"), (6.9, "mixed"), (7.1, "variance")],
)
def test_verdict(log_alpha, verdict):
    layer = new_layer(phi=[[log_alpha]], posterior="layer_alpha")
    assert layer_statistics(layer).verdict == verdict


@pytest.mark.parametrize("posterior", ["zero_mean", "layer_alpha", "additive"])
def test_weights_that_are_nan_have_no_verdict(posterior):
    layer = kv.VarianceDense(3, posterior=posterior)
    layer.build((None, 4))
    layer.kernel.assign(np.where(np.eye(4, 3), np.nan, 1.0))
    statistics = layer_statistics(layer)
    assert statistics.verdict == "nan" and np.isnan(statistics.log_alpha)
    assert "nan" in "".join(table(keras.Sequential([layer])))


def test_verdict_weighs_large_weights():
    """Noise in weights that are tiny does not hide a mean that is large."""
    kernel, phi = np.full((50, 4), 1e-3), np.full((50, 4), 12.0)
    kernel[:5], phi[:5] = 1, -4
    layer = new_layer(kernel, phi, posterior="weight_alpha")
    assert layer_statistics(layer).quantiles[1] == 12
    assert layer_statistics(layer).verdict == "mean"


def test_kl_is_in_nats_without_its_weight():
    kernel = np.full((50, 4), 0.7)
    layer = new_layer(
        kernel,
        [[-1.0]],
        posterior="layer_alpha",
        prior="ard",
        train_size=10,
        kl_weight=0.5,
    )
    expected = 200 * np.log1p(np.exp(1.0)) / 2
    np.testing.assert_allclose(layer_statistics(layer).kl, expected, rtol=1e-5)


def test_noise_is_not_touched():
    prior = kv.priors.StudentT(method="monte_carlo")
    layer = new_layer(prior=prior, train_size=10)
    before = np.asarray(layer.seed_generator.state)
    kl = layer_statistics(layer).kl
    np.testing.assert_array_equal(layer.seed_generator.state, before)
    assert layer_statistics(layer).kl == kl
    draws = [float(layer.kl_divergence()) for _ in range(30)]
    assert abs(stats.zscore([*draws, kl])[-1]) < 5  # false alarms: below 1e-6


def test_identifiers():
    layer = new_layer(posterior="additive", noise="uniform", name="first")
    statistics = layer_statistics(layer)
    assert statistics[:5] == (
        "first",
        "VarianceDense",
        "additive",
        "uniform",
        "flipout",
    )


def test_classes_of_users_show_by_their_names():
    class Halved(kv.posteriors.ZeroMean):
        def scale(self, kernel, phi):
            return kernel / 2

    class Exact(kv.estimators.WeightSampling):
        pass

    class Narrow(kv.noises.Gaussian):
        pass

    layer = new_layer(
        np.ones((50, 4)), posterior=Halved(), noise=Narrow(), estimator=Exact()
    )
    statistics = layer_statistics(layer)
    assert statistics[2:5] == ("Halved", "Narrow", "Exact")
    assert statistics.quantiles == (0.5, 0.5, 0.5)


def test_squares_do_not_underflow():
    kernel = np.full((50, 4), 1e-25)  # its square is 0 at single precision
    layer = new_layer(kernel, [[2.0]], posterior="layer_alpha")
    np.testing.assert_allclose(layer_statistics(layer).log_alpha, 2, rtol=1e-5)


def new_nested_model():
    inner = model_of(
        kv.VarianceDense(6, noise="bernoulli", name="deep"),
        kv.VarianceDense(5, posterior="additive", name="deeper"),
        name="inner",
    )
    shared = kv.VarianceDense(5, name="shared")
    last = kv.VarianceDense(
        3, posterior="layer_alpha", prior="ard", train_size=9, name="last"
    )
    x = keras.Input((50,))
    return keras.Model(x, last(shared(shared(inner(x)))), name="outer")


@pytest.mark.parametrize("width", [80, 120])
def test_table_holds_every_row(width):
    model = new_nested_model()
    lines = table(model, line_length=width)
    assert lines[0] == 'Model: "outer"'
    assert [cell.strip() for cell in lines[2].strip("┃").split("┃")] == [
        "Layer",
        "Posterior",
        "σ/log α",
        "KL",
        "Zeros",
        "Verdict",
    ]
    rows = [layer_statistics(layer) for layer in variance_layers(model)]
    starts = [
        next(i for i, line in enumerate(lines) if line.startswith(f"│ {row.name} "))
        for row in rows
    ]
    assert starts == sorted(starts)
    assert sum(line.startswith("│ (VarianceDense)") for line in lines) == len(rows) == 4
    for start, row in zip(starts, rows, strict=True):
        cells = [line.strip("│").split("│") for line in lines[start : start + 4]]
        columns = ["".join(cell).split() for cell in zip(*cells, strict=True)]
        assert columns[1][:2] == [row.posterior, row.noise]
        assert "".join(columns[1][2:]) == row.estimator
        label = ["σ"] if row.quantity == "sigma" else ["log", "α"]
        assert columns[2][:-3] == label
        shown = np.float64(columns[2][-3:])
        np.testing.assert_allclose(shown, row.quantiles, rtol=6e-3)
        assert columns[3] == (["-"] if row.kl is None else [f"{row.kl:#.3g}"])
        assert columns[4:] == [["0.0"], [row.verdict]]


@pytest.mark.parametrize("width", [76, 80, 88, 120])
def test_line_length(width):
    lines = table(new_nested_model(), line_length=width)
    assert {len(line) for line in lines[1:-1]} == {width}


@pytest.mark.parametrize("terminal, broken", [(80, True), (120, False)])
def test_default_width_is_what_the_table_needs(terminal, broken, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(terminal))
    lines = table(new_nested_model())
    assert max(map(len, lines)) <= min(terminal, 96)
    whole = any("local_reparameterization" in line for line in lines)
    assert whole is not broken


def test_no_number_is_cut_in_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert not any("…" in line for line in table(new_nested_model()))


def test_large_numbers_have_separators():
    layer = new_layer(np.full((50, 4), 1234.5))
    assert any("1,234" in line for line in table(model_of(layer)))


def test_names_are_no_markup():
    lines = table(model_of(kv.VarianceDense(2, name="[bold]a"), name="[red]m"))
    assert lines[0] == 'Model: "[red]m"'
    assert any(line.startswith("│ [bold]a ") for line in lines)


def test_prints_and_returns_nothing(capsys):
    model = new_nested_model()
    assert summary(model, line_length=80) is None
    assert capsys.readouterr().out.splitlines() == table(model, line_length=80)


def test_without_interactive_logging(capsys, monkeypatch):
    texts = []
    monkeypatch.setattr("absl.logging.info", texts.append)
    keras.config.disable_interactive_logging()
    try:
        summary(new_nested_model())
    finally:
        keras.config.enable_interactive_logging()
    assert texts[0].startswith('Model: "outer"')
    assert capsys.readouterr().out == ""


def test_not_built():
    match = (
        r"^Argument `(layer|model)` must be built: .*"
        r"Received: \1=<(VarianceDense name=late|Sequential name=\w+), built=False>$"
    )
    layer = kv.VarianceDense(3, name="late")
    for call in (layer_statistics, lambda layer: summary(keras.Sequential([layer]))):
        with pytest.raises(ValueError, match=match):
            call(layer)


def test_no_variance_layer():
    model = model_of(keras.layers.Dense(3), name="plain")
    match = r"with variance layers.* Received: model=<Sequential name=plain, .*>$"
    with pytest.raises(ValueError, match=match):
        summary(model)


def test_line_length_that_is_too_short():
    match = r"`line_length` must be an integer ≥ 76. Received: line_length=20$"
    with pytest.raises(ValueError, match=match):
        summary(new_nested_model(), line_length=20)
