"""Binary dropout and a variance network by one sample, the means and 20, on CIFAR.

    python -m examples.paper.cifar_classification [--data-dir DIR] [--smoke]
    python -m examples.paper.cifar_classification --dataset cifar100 --seeds 1

Variance Networks, table 2: the VGG-like network with binary dropout, and with its last
three convolutions and its first dense layer trained by variational dropout, one α per
layer. Beside the paper's columns: a pass of moments, negative log-likelihood (NLL) and
calibration error (ECE). `costs` measures what each costs.
"""

from functools import partial

import numpy as np

from examples.paper import cifar, common, experiment
from examples.paper.follow import log_alphas
from examples.paper.training import kept

NAME = "cifar_classification"
DROPOUT, VARIANCE = "binary dropout", "variational dropout"
METHODS = {DROPOUT: cifar.DROPOUT, VARIANCE: cifar.VARIANCE}
SAMPLES = 20
COLUMNS = ("1 sample", "mean", f"{SAMPLES} samples", "moments")
PAPER = {
    "cifar10": {DROPOUT: (91.0, 93.1, 93.4), VARIANCE: (91.3, 10.0, 93.4)},
    "cifar100": {DROPOUT: (77.5, 79.8, 81.7), VARIANCE: (76.9, 5.0, 82.2)},
}


def evaluate(title, model, test_data):
    """Quality by column, and log α by layer."""
    x, y = test_data
    dropout = title == DROPOUT
    sampled = partial(common.sampled, model, x, dropout=dropout)
    by_means = common.predicted if dropout else common.by_means
    predictions = {
        "1 sample": sampled(samples=1),
        "mean": by_means(model, x),
        f"{SAMPLES} samples": sampled(samples=SAMPLES),
        "moments": common.by_moments(model, x, dropout=dropout),
    }
    row = {column: common.quality(p, y) for column, p in predictions.items()}
    return {**row, "log_alpha": log_alphas(model)}


def run(args):
    data, test_data = cifar.load(args)

    def row(title, seed):
        made = cifar.recipe(METHODS[title], data, args, seed)

        def evaluated():
            model = cifar.trained(made, data, test_data, args)
            return evaluate(title, model, test_data)

        return kept(made, args.work, "quality", evaluated)

    return {
        title: [row(title, seed) for seed in common.seeds(args)] for title in METHODS
    }


def mean_of(rows, column, metric):
    """Over seeds; None for a column they lack."""
    if column not in rows[0]:
        return None
    return float(np.mean([row[column][metric] for row in rows]))


def table(config, results):
    yield f"# Dropout on {config['data']}: one sample, the means, an ensemble\n"
    yield from cifar.setting(config)
    yield "Figures are means over the seeds. Accuracy in percent; in brackets, that of"
    yield "the paper (table 2):\n"
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
    yield "\nWhat training and predictions cost is [beside their quality](costs.md)."


def compare(config, results):
    paper, ours = [], []
    for title, rows in results.items():
        known = "/".join(map(str, PAPER[config["dataset"]][title]))
        values = (mean_of(rows, column, "accuracy") for column in COLUMNS)
        numbers = "/".join(f"{value:.2f}" for value in values if value is not None)
        paper.append(f"{title} {known}")
        ours.append(f"{title} {numbers}")
    return experiment.Comparison(
        f"Table 2 on {cifar.on(config)}, one sample/mean/20 samples(/moments), %",
        ", ".join(paper),
        ", ".join(ours),
        cifar.DIFFERENCE.format(**config) + _behind(results),
    )


def _behind(results):
    """How far the variance network's ensemble is below the other, if it is."""
    binary, variational = (
        mean_of(results[title], f"{SAMPLES} samples", "accuracy")
        for title in (DROPOUT, VARIANCE)
    )
    if binary - variational < 1:
        return ""
    return (
        f" Of {SAMPLES} samples, variational dropout is {binary - variational:.1f} "
        "points below binary dropout."
    )


def main(arguments=None):
    cifar.main(NAME, cifar.parser(__doc__, 3), run, table, arguments)


if __name__ == "__main__":
    main()
