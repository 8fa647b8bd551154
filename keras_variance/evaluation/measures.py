"""What is measured of one predictor, on data with labels."""

import math

import numpy as np
from keras import ops

from keras_variance import metrics
from keras_variance.likelihoods import Categorical

# Of the intervals whose coverage is measured
LEVEL = 0.9


def of_classes(likelihood, y, prediction):
    """Measures of class probabilities, and what pictures need: two dicts.

    Args:
        y: Labels.
        prediction: A `Prediction`.
    """
    labels, p = likelihood.as_classes(y, prediction.mean)
    p = np.asarray(p, "float32")
    one_hot = np.eye(p.shape[1])[labels]
    parts = metrics.BrierDecomposition(p.shape[1])
    parts.update_state(labels, p)
    parts = {name: float(value) for name, value in parts.result().items()}
    entropy = ops.convert_to_numpy(Categorical().entropy(ops.convert_to_tensor(p)))
    correct = p.argmax(axis=-1) == labels
    curve = metrics.risk_coverage(~correct, entropy)
    measures = {
        "accuracy": float(correct.mean()),
        "nll": -float(np.mean(likelihood.log_likelihood(y, prediction.mean))),
        "brier": float(np.square(p - one_hot).sum(axis=-1).mean()),
        **parts,
        "ece": float(metrics.ExpectedCalibrationError()(labels, p)),
        "adaptive_ece": metrics.adaptive_calibration_error(labels, p),
        "classwise_ece": float(
            metrics.ClasswiseCalibrationError(p.shape[1])(labels, p)
        ),
        "aurc": curve.area,
        "accuracy_at_90": metrics.accuracy_at_coverage(correct, entropy, 0.9),
        "entropy": float(entropy.mean()),
    }
    if prediction.mutual_information is not None:
        measures["mutual_information"] = float(np.mean(prediction.mutual_information))
    return measures, {"labels": labels, "probabilities": p, "curve": curve}


def of_numbers(likelihood, y, prediction):
    """Measures of the normal distribution with a predictor's mean and total variance.
    Arguments and result as `of_classes`."""
    from statistics import NormalDist

    mean = np.asarray(prediction.mean, "float64")
    y = np.asarray(y, "float64").reshape(mean.shape)
    variance = np.broadcast_to(prediction.total_variance, mean.shape).astype("float64")
    stddev = np.sqrt(variance)
    outputs = np.stack([mean, np.log(variance)], axis=-1)
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * stddev
    pit = metrics.gaussian_pit(y, mean, stddev).ravel()
    quantiles = metrics.quantile_calibration(pit)
    measures = {
        "rmse": likelihood.rmse(y, mean),
        "nll": -float(np.mean(likelihood.log_predictive(y, prediction))),
        "crps": float(metrics.GaussianCRPS()(y[..., None], outputs)),
        "coverage_90": float(np.mean(np.abs(y - mean) <= half)),
        "width_90": float(2 * half.mean()),
        "quantile_error": quantiles.error,
        "epistemic": math.sqrt(float(np.mean(prediction.variance))),
        "aleatoric": math.sqrt(float(np.mean(prediction.aleatoric))),
    }
    return measures, {"quantiles": quantiles}


def of_scores(inside, outside):
    """How well entropy, and mutual information, separate data out of distribution.

    Args:
        inside, outside: A `Prediction` of each.
    """
    measures = {}
    for name in ("entropy", "mutual_information"):
        if getattr(inside, name) is None:
            continue
        scores = [np.ravel(getattr(each, name)) for each in (inside, outside)]
        result = metrics.ood_metrics(*scores)
        measures |= {f"{key}_{name}": x for key, x in result._asdict().items()}
    return measures
