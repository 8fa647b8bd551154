"""Metrics of numbers, against integrals, brute force and SciPy."""

import keras
import numpy as np
import pytest
from scipy import integrate, stats

from keras_variance import _keras
from keras_variance.metrics import (
    EnsembleCRPS,
    GaussianCRPS,
    IntervalCoverage,
    IntervalWidth,
    ensemble_pit,
    gaussian_pit,
    quantile_calibration,
)
from tests import backends


def crps_by_integral(distribution, y):
    def square(x):
        return (distribution.cdf(x) - (x >= y)) ** 2

    below, _ = integrate.quad(square, y - 40, y, limit=200, points=[y - 5, y - 1])
    above, _ = integrate.quad(square, y, y + 40, limit=200, points=[y + 1, y + 5])
    return below + above


def test_gaussian_crps_is_its_integral(rng):
    mean, stddev, y = rng.normal(size=(3, 8))
    stddev = np.abs(stddev) + 0.2
    each = [
        crps_by_integral(stats.norm(m, s), t)
        for m, s, t in zip(mean, stddev, y, strict=True)
    ]
    outputs = np.stack([mean, 2 * np.log(stddev)], axis=-1)
    weight = rng.uniform(size=8)
    for targets in (y, y[:, None]):
        np.testing.assert_allclose(
            GaussianCRPS()(targets, outputs), np.mean(each), 1e-4
        )
        value = GaussianCRPS()(targets, outputs, weight)
        np.testing.assert_allclose(value, np.average(each, weights=weight), 1e-4)
    # Two numbers of an example: first means, then log variances
    both = np.concatenate([outputs.reshape(4, 2, 2)[..., k] for k in (0, 1)], axis=-1)
    value = GaussianCRPS()(y.reshape(4, 2), both)
    np.testing.assert_allclose(value, np.mean(each), 1e-4)


def test_gaussian_crps_of_no_variance_is_the_absolute_error():
    value = GaussianCRPS()([[3.0]], [[1.0, -60.0]])
    np.testing.assert_allclose(value, 2, rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_ensemble_crps_against_brute_force(shape, rng):
    y, samples = rng.normal(size=(6, *shape)), rng.normal(size=(6, 5, *shape))
    accuracy = np.mean([np.abs(samples[:, k] - y) for k in range(5)], axis=0)
    pairs = sum(
        np.abs(samples[:, i] - samples[:, j]) for i in range(5) for j in range(5)
    )
    for fair, count in ((True, 20), (False, 25)):
        expected = np.mean(accuracy - pairs / (2 * count))
        value = EnsembleCRPS(fair)(y, samples)
        np.testing.assert_allclose(value, expected, rtol=1e-4)
        update = EnsembleCRPS(fair)
        backends.compiled(update.update_state, jit_compile=True)(y, samples)
        np.testing.assert_allclose(update.result(), expected, rtol=1e-4)


def test_fair_crps_does_not_depend_on_the_number_of_samples(rng):
    """It estimates the Gaussian's, by three samples too; the other is larger."""
    y = np.zeros(200_000)
    expected = float(GaussianCRPS()(y[:1], [[0.0, 0.0]]))
    samples = rng.normal(size=(len(y), 3))
    each = np.abs(samples).mean(axis=1)
    each = each - np.abs(samples[:, :, None] - samples[:, None]).sum((1, 2)) / 12
    error = each.std() / np.sqrt(len(y))
    fair = float(EnsembleCRPS()(y, samples))
    assert abs(fair - expected) < 5 * error
    assert float(EnsembleCRPS(fair=False)(y, samples)) > expected + 50 * error


def test_intervals(rng):
    y, ends = rng.normal(size=90), np.sort(rng.normal(size=(90, 2)), axis=-1)
    inside = (ends[:, 0] <= y) & (y <= ends[:, 1])
    np.testing.assert_allclose(IntervalCoverage()(y, ends), inside.mean(), rtol=1e-5)
    width = (ends[:, 1] - ends[:, 0]).mean()
    np.testing.assert_allclose(IntervalWidth()(y, ends), width, rtol=1e-5)
    assert float(IntervalCoverage()([1.0, 2.0], [[1.0, 2.0]] * 2)) == 1
    assert np.isnan(float(IntervalCoverage()([np.nan], [[1.0, 2.0]])))


@pytest.mark.parametrize(
    "metric",
    [
        GaussianCRPS(name="a"),
        EnsembleCRPS(fair=False, name="a"),
        IntervalCoverage(name="a"),
        IntervalWidth(name="a"),
    ],
)
def test_config(metric):
    config = keras.saving.serialize_keras_object(metric)
    assert config["registered_name"] == f"keras_variance>{type(metric).__name__}"
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == metric.get_config() and copy.name == "a"


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("metric", "shape"),
    [
        (GaussianCRPS, (6, 5, 2)),
        (EnsembleCRPS, (6, 3, 5)),
        (IntervalCoverage, (6, 5, 2)),
        (IntervalWidth, (6, 5, 2)),
    ],
)
def test_padding_does_not_count(metric, shape, weighted, rng):
    """Nor does it change the mask of the predictions."""
    y, p = rng.normal(size=(6, 5)), rng.normal(size=shape)
    mask = np.arange(5) < rng.integers(1, 6, size=(6, 1))
    weights = rng.uniform(1, 2, size=(6, 5))
    of_steps = p[mask] if shape[-1] == 2 else np.moveaxis(p, 1, -1)[mask]
    expected = metric()(y[mask], of_steps, weights[mask] if weighted else None)
    outputs = keras.ops.convert_to_tensor(p, "float32")
    several = mask if shape[-1] == 2 else np.repeat(mask[:, None], 3, axis=1)
    _keras.set_mask(outputs, keras.ops.convert_to_tensor(several))
    y[~mask] = 1e6
    found = metric()(y, outputs, weights if weighted else None)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_array_equal(_keras.get_mask(outputs), several)


def test_gaussian_pit_is_scipys(rng):
    y, mean, stddev = rng.normal(size=(3, 5, 2)) * 3
    stddev = np.abs(stddev) + 0.1
    expected = stats.norm.cdf(y, mean, stddev)
    np.testing.assert_allclose(gaussian_pit(y, mean, stddev), expected, rtol=1e-12)


def test_ensemble_pit_against_brute_force(rng):
    y, samples = rng.integers(0, 5, (20, 2)), rng.integers(0, 5, (20, 7, 2))
    for pit, target, draws in zip(
        ensemble_pit(y, samples).ravel(),
        y.ravel(),
        np.moveaxis(samples, 1, 2).reshape(-1, 7),
        strict=True,
    ):
        # Its average rank among all 8, from 0, in the middle of a step of 1/8
        rank = stats.rankdata([target, *draws])[0] - 1
        assert pit == pytest.approx((rank + 0.5) / 8)


def test_right_distributions_are_calibrated(rng):
    """By a test of uniformity that wrong ones fail."""
    mean = rng.normal(size=4000)
    y = rng.normal(mean, 2)
    right = gaussian_pit(y, mean, np.full(4000, 2.0))
    wrong = gaussian_pit(y, mean, np.full(4000, 1.7))
    assert stats.kstest(right, "uniform").pvalue > 1e-6
    assert stats.kstest(wrong, "uniform").pvalue < 1e-6
    samples = rng.normal(mean[:, None], 2, size=(4000, 99))
    assert stats.kstest(ensemble_pit(y, samples), "uniform").pvalue > 1e-6
    result = quantile_calibration(right, levels=[0.1, 0.5])
    np.testing.assert_allclose(
        result.observed, np.mean(right[:, None] <= [0.1, 0.5], 0)
    )
    assert result.error == pytest.approx(np.abs(result.observed - [0.1, 0.5]).mean())
    assert result.error < 0.03 < quantile_calibration(1 - wrong**2).error


BAD = {
    "y_true": [
        lambda: GaussianCRPS()(np.ones(3), np.ones((2, 2))[:, :, None].repeat(2, 2)),
        lambda: IntervalWidth()(np.ones((2, 3)), np.ones((2, 2))),
    ],
    "y_pred": [
        lambda: GaussianCRPS()(np.ones(3), np.ones((3, 3))),
        lambda: GaussianCRPS()(np.ones(2), np.ones(2)),
        lambda: EnsembleCRPS()(np.ones(3), np.ones((3, 1))),
        lambda: EnsembleCRPS()(np.ones((3, 2)), np.ones((3, 5, 1))),
        lambda: IntervalCoverage()(np.ones(3), np.ones((3, 3))),
    ],
    "stddev": [
        lambda: gaussian_pit([1.0], [1.0], [0.0]),
        lambda: gaussian_pit([1.0], [1.0], [1.0, 1.0]),
    ],
    "samples": [lambda: ensemble_pit([1.0], [1.0])],
    "levels": [
        lambda: quantile_calibration([0.5], levels=[0.0]),
        lambda: quantile_calibration([0.5], levels=[1.0]),
        lambda: quantile_calibration([0.5], levels=[np.nan]),
        lambda: quantile_calibration([0.5], levels=[]),
    ],
    "pit": [lambda: quantile_calibration([1.5])],
    "y": [lambda: gaussian_pit([np.nan], [0.0], [1.0])],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    for call in BAD[name]:
        with pytest.raises(
            ValueError, match=rf"^Argument `{name}` .* Received: {name}="
        ):
            call()
