"""Binary dropout and a variance network by one sample, the means and 20, on CIFAR.

    python -m examples.paper.cifar_classification [--data-dir DIR] [--smoke]
    python -m examples.paper.cifar_classification --dataset cifar100 --seeds 1

Variance Networks, table 2: the VGG-like network with binary dropout, and with its last
three convolutions and its first dense layer trained by variational dropout, one α per
layer. Beside the paper's columns: a pass of moments, negative log-likelihood (NLL) and
calibration error (ECE), and what each costs.
"""

import time

import keras
import numpy as np

from examples.paper import cifar, common, experiment
from examples.paper.dropout import dropout_samples
from examples.paper.follow import log_alphas

NAME = "cifar_classification"
DROPOUT, VARIANCE = "binary dropout", "variational dropout"
METHODS = {DROPOUT: cifar.DROPOUT, VARIANCE: cifar.VARIANCE}
SAMPLES = 20
COLUMNS = ("1 sample", "mean", f"{SAMPLES} samples", "moments")
PAPER = {
    "cifar10": {DROPOUT: (91.0, 93.1, 93.4), VARIANCE: (91.3, 10.0, 93.4)},
    "cifar100": {DROPOUT: (77.5, 79.8, 81.7), VARIANCE: (76.9, 5.0, 82.2)},
}


def predictors(title):
    """Functions of a model and images that give class probabilities, by column."""
    if title == DROPOUT:
        return {
            "1 sample": lambda model, x: dropout_samples(model, x, 1),
            "mean": common.predicted,
            f"{SAMPLES} samples": lambda model, x: dropout_samples(model, x, SAMPLES),
        }
    return {
        "1 sample": lambda model, x: common.sampled(model, x, 1),
        "mean": common.by_means,
        f"{SAMPLES} samples": lambda model, x: common.sampled(model, x, SAMPLES),
        "moments": common.by_moments,
    }


def evaluate(title, model, test_data):
    """Quality by column, the seconds each took, and log α by layer."""
    x, y = test_data
    row = {}
    for column, predict in predictors(title).items():
        keras.utils.set_random_seed(0)
        began = time.process_time()
        p = predict(model, x)
        seconds = round(time.process_time() - began, 2)
        row[column] = {**common.quality(p, y), "cpu_seconds": seconds}
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
        ("cpu_seconds", "Processor seconds for all test images", 1),
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
