"""What longer training changes in the tables on MNIST.

    python -m examples.paper.mnist_longer [--data-dir DIR] [--smoke]

The rows of tables 1, 2 and 3 that end below the paper's, which trained for 200 epochs:
the same networks and recipes as in `mnist_parameterizations`, `mnist_classification`
and `mnist_tanh`, whose results stand beside these, with more epochs.
"""

import json
from functools import partial

import numpy as np

from examples.paper import (
    common,
    experiment,
    mnist_classification,
    mnist_parameterizations,
    mnist_tanh,
    training,
)

NAME = "mnist_longer"
EPOCHS = 100
ONE = mnist_parameterizations.ONE
VARIATIONAL = mnist_classification.VARIATIONAL
CONVOLUTION = "second convolution"
ELBO, ONE_SAMPLE, MEAN, SAMPLES = "ELBO", "1 sample", "mean", "20 samples"


def bound(posterior, data, test_data, args, seed):
    """Of table 1: ELBO in nats, accuracy of 20 samples in percent."""
    recipe = common.variational_dropout(data, args, seed, posterior, "log_uniform")
    model = training.train(recipe, data, args.work)
    row = mnist_parameterizations.evaluate(model, data, test_data, samples=1)
    return {ELBO: row["elbo"], SAMPLES: row["averaged"]["accuracy"]}


def variational(data, test_data, args, seed):
    """Of table 2: accuracies in percent."""
    x, y = test_data
    _, predictions = mnist_classification.variational_dropout(data, args, seed, x)
    return {
        column: common.quality(predictions[column], y)["accuracy"]
        for column in (ONE_SAMPLE, MEAN, SAMPLES)
    }


def convolution(data, test_data, args, seed):
    """Of table 3: accuracies in percent."""
    model = mnist_tanh.train(CONVOLUTION, data, args, seed)
    row = mnist_tanh.evaluate(model, data, test_data)
    return {column: row[column]["accuracy"] for column in (ONE_SAMPLE, SAMPLES)}


ROWS = {
    "table 1, zero-mean": partial(bound, "zero_mean"),
    "table 1, layer": partial(bound, "layer_alpha"),
    "table 2, variational dropout": variational,
    "table 3, second convolution": convolution,
}
PAPER = {
    "table 1, zero-mean": {ELBO: -4.0, SAMPLES: 99.4},
    "table 1, layer": {ELBO: -17.4, SAMPLES: 99.2},
    "table 2, variational dropout": {ONE_SAMPLE: 98.2, MEAN: 11.3, SAMPLES: 99.3},
    "table 3, second convolution": {ONE_SAMPLE: 98.8, SAMPLES: 99.2},
}


def shorter():
    """The committed results at fewer epochs: {row: (epochs, values)}."""

    def read(name):
        written = json.loads((experiment.RESULTS / f"{name}.json").read_text())
        return written["config"]["epochs"], written["results"]

    epochs, table1 = read(mnist_parameterizations.NAME)
    found = {}
    for posterior in ("zero_mean", "layer_alpha"):
        title = mnist_parameterizations.title_of(posterior)
        rows = table1[ONE][posterior]
        values = {
            ELBO: float(np.mean([row["elbo"] for row in rows])),
            SAMPLES: common.mean_accuracy(rows, "averaged"),
        }
        found[f"table 1, {title}"] = epochs[ONE], values
    epochs, table2 = read(mnist_classification.NAME)
    found["table 2, variational dropout"] = (
        epochs[VARIATIONAL],
        {
            column: common.mean_accuracy(table2[VARIATIONAL], column)
            for column in (ONE_SAMPLE, MEAN, SAMPLES)
        },
    )
    epochs, table3 = read(mnist_tanh.NAME)
    found["table 3, second convolution"] = (
        epochs[CONVOLUTION],
        {
            column: common.mean_accuracy(table3[CONVOLUTION], column)
            for column in (ONE_SAMPLE, SAMPLES)
        },
    )
    return found


def run(args):
    data, test_data = common.load(args)
    args.epochs = args.epochs or EPOCHS
    results = {}
    chosen = tuple(f"table {k}," for k in args.tables)
    for title, evaluate in ROWS.items():
        if not title.startswith(chosen):
            continue
        results[title] = [
            evaluate(data, test_data, args, seed) for seed in common.seeds(args)
        ]
        print(f"{title}: {results[title]}", flush=True)
    return results


def means(rows):
    """Over seeds, of each column."""
    return {column: float(np.mean([row[column] for row in rows])) for column in rows[0]}


def table(config, results):
    columns = (ELBO, ONE_SAMPLE, MEAN, SAMPLES)

    def line(title, epochs, values):
        cells = (f"{values[c]:,.2f}" if c in values else "" for c in columns)
        return f"| {title} | {epochs} | {' | '.join(cells)} |"

    yield "# Longer training\n"
    yield f"LeNet-5, {config['data']}, log-uniform prior in tables 1 and 2; number of"
    yield f"seeds here: {len(config['seeds'])}. The ELBO is in nats over the training"
    yield "data, accuracies are in percent. Above, the result with fewer epochs, of"
    yield "[table 1](mnist_parameterizations.md), [2](mnist_classification.md) and"
    yield "[3](mnist_tanh.md); below, the paper's.\n"
    yield f"| network | epochs | {' | '.join(columns)} |"
    yield "|---" * (2 + len(columns)) + "|"
    before = shorter()
    for title, rows in results.items():
        yield line(title, *before[title])
        yield line("", config["epochs"], means(rows))
        yield line("the paper", 200, PAPER[title])


def compare(config, results):
    def words(rows):
        return "; ".join(
            f"{title.split(', ')[1]} {'/'.join(f'{x:.2f}' for x in row.values())}"
            for title, row in rows.items()
        )

    tables = {title.split(",")[0]: "/".join(PAPER[title]) for title in results}
    return experiment.Comparison(
        "Longer training: "
        + "; ".join(f"{name}, {columns}" for name, columns in tables.items()),
        words({title: PAPER[title] for title in results}),
        words({title: means(rows) for title, rows in results.items()}),
    )


def main(arguments=None):
    parser = experiment.parser(__doc__, seeds=1)
    parser.add_argument(
        "--tables",
        nargs="+",
        type=int,
        choices=(1, 2, 3),
        default=[1, 2, 3],
        help="default: all",
    )
    args = experiment.parse(parser, arguments)
    experiment.execute(
        NAME,
        args,
        run,
        table,
        EPOCHS,
        command=experiment.command(NAME, parser, args),
        data="digits (smoke run)" if args.smoke else "mnist",
        batch_size=common.BATCH_SIZE,
    )


if __name__ == "__main__":
    main()
