"""Binary dropout and a variance network by one sample, the means and 20, on CIFAR.

    python -m examples.paper.cifar_classification [--data-dir DIR] [--smoke]
    python -m examples.paper.cifar_classification --dataset cifar100 --seeds 1

Variance Networks, table 2: the VGG-like network with binary dropout, and with its last
three convolutions and its first dense layer trained by variational dropout, one α per
layer. Beside the paper's columns: a pass of moments, negative log-likelihood (NLL) and
calibration error (ECE), and what each costs.
"""

import time
from functools import partial

import keras
import numpy as np

from examples.paper import cifar, common, dropout, experiment
from examples.paper.follow import log_alphas

NAME = "cifar_classification"
DROPOUT, VARIANCE = "binary dropout", "variational dropout"
METHODS = {DROPOUT: cifar.DROPOUT, VARIANCE: cifar.VARIANCE}
SAMPLES = 20
MEAN = "mean"
COLUMNS = ("1 sample", MEAN, f"{SAMPLES} samples", "moments")
PAPER = {
    "cifar10": {DROPOUT: (91.0, 93.1, 93.4), VARIANCE: (91.3, 10.0, 93.4)},
    "cifar100": {DROPOUT: (77.5, 79.8, 81.7), VARIANCE: (76.9, 5.0, 82.2)},
}


def predictors(title, model):
    """Functions of images that give class probabilities, by column."""
    if title == DROPOUT:
        sampled = dropout.sampler(model)
        return {
            "1 sample": partial(sampled, samples=1),
            MEAN: partial(common.predicted, model),
            f"{SAMPLES} samples": partial(sampled, samples=SAMPLES),
        }
    return {
        "1 sample": partial(common.sampled, model, samples=1),
        MEAN: partial(common.predicted, common.means_of(model)),
        f"{SAMPLES} samples": partial(common.sampled, model, samples=SAMPLES),
        "moments": partial(common.by_moments, model),
    }


def evaluate(title, model, test_data):
    """Quality by column, the seconds each takes, and log α by layer."""
    x, y = test_data
    row = {}
    for column, predict in predictors(title, model).items():
        keras.utils.set_random_seed(0)
        quality = common.quality(predict(x), y)
        began = time.perf_counter()
        predict(x)  # once more: all functions are compiled
        row[column] = {**quality, "seconds": round(time.perf_counter() - began, 3)}
    row["log_alpha"] = log_alphas(model)
    return row


def run(args):
    data, test_data = cifar.load(args)
    results = {}
    for title, network in METHODS.items():
        results[title] = []
        for seed in common.seeds(args):
            _, model = cifar.trained(network, data, test_data, args, seed)
            row = evaluate(title, model, test_data)
            print(f"{title}, seed {seed}: {row}", flush=True)
            results[title].append(row)
    return results


def mean_of(rows, column, metric):
    """Over seeds; None for a column they lack."""
    if column not in rows[0]:
        return None
    return float(np.mean([row[column][metric] for row in rows]))


def table(config, results):
    width = f"width {config['width']:g}, {config['epochs']} epochs, "
    yield f"# Dropout on {config['data']}: one sample, the means, an ensemble\n"
    yield f"The VGG-like network, {width}mean of {len(config['seeds'])} seeds. Accuracy"
    yield "in percent; in brackets, that of the paper (table 2), which has width 1.\n"
    paper = PAPER[config["dataset"]]
    header = "| network | " + " | ".join(COLUMNS) + " |"
    yield header
    yield "|---" * (1 + len(COLUMNS)) + "|"
    for title, rows in results.items():
        cells = (
            common.cell(mean_of(rows, column, "accuracy"), known)
            for column, known in zip(COLUMNS, (*paper[title], None), strict=True)
        )
        yield f"| {title} | " + " | ".join(cells) + " |"
    for metric, words, digits in (
        ("nll", "Negative log-likelihood, nats per image", 3),
        ("ece", "Expected calibration error", 3),
        ("seconds", f"Seconds for all test images, {config['device']}", 2),
    ):
        yield f"\n{words}:\n"
        yield header
        yield "|---" * (1 + len(COLUMNS)) + "|"
        for title, rows in results.items():
            values = (mean_of(rows, column, metric) for column in COLUMNS)
            cells = ("" if x is None else f"{x:.{digits}f}" for x in values)
            yield f"| {title} | " + " | ".join(cells) + " |"
    yield "\nlog α after training:\n"
    layers = list(results[VARIANCE][0]["log_alpha"])
    yield "| seed | " + " | ".join(x.removeprefix("log_alpha_") for x in layers) + " |"
    yield "|---" * (1 + len(layers)) + "|"
    for seed, row in zip(config["seeds"], results[VARIANCE], strict=True):
        cells = (f"{row['log_alpha'][each]:.1f}" for each in layers)
        yield f"| {seed} | " + " | ".join(cells) + " |"


def compare(config, results):
    paper, ours = [], []
    for title, rows in results.items():
        known = "/".join(map(str, PAPER[config["dataset"]][title]))
        values = (mean_of(rows, column, "accuracy") for column in COLUMNS)
        numbers = "/".join(f"{value:.2f}" for value in values if value is not None)
        paper.append(f"{title} {known}")
        ours.append(f"{title} {numbers}")
    return experiment.Comparison(
        f"Table 2, {config['data']}, one sample/mean/20 samples(/moments), %",
        ", ".join(paper),
        ", ".join(ours),
        f"The network here has {config['width']:g} times the paper's filters.",
    )


def main(arguments=None):
    cifar.main(NAME, __doc__, run, table, seeds=3, arguments=arguments)


if __name__ == "__main__":
    main()
