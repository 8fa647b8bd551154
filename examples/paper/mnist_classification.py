"""Binary dropout and variational dropout by one sample, the mean and 20, on MNIST.

    python -m examples.paper.mnist_classification [--data-dir DIR] [--smoke]

Variance Networks, table 2: LeNet-5-Caffe with binary dropout before its first dense
layer, and with variational dropout, one α a layer, in all four layers. Beside the
paper's columns: one pass of moments, and log α, which tells what became of each layer.
"""

from functools import partial

from examples.paper import common, experiment, training

NAME = "mnist_classification"
BINARY, VARIATIONAL = "binary dropout", "variational dropout"
EPOCHS = {BINARY: 16, VARIATIONAL: common.ALL_EPOCHS}
SAMPLES = 20
PAPER = {BINARY: (99.1, 99.4, 99.4), VARIATIONAL: (98.2, 11.3, 99.3)}
COLUMNS = ("1 sample", "mean", f"{SAMPLES} samples", "moments")


def recipe(title, data, args, seed):
    """The `Recipe` of either network."""
    if title == VARIATIONAL:
        return common.all_four_layers(data, args, seed, "layer_alpha")
    build = partial(common.lenet, data[0].shape[1:], *common.STOCK, dropout=0.5)
    return common.recipe("lenet-dropout", build, data, args, seed, EPOCHS[BINARY])


def binary_dropout(data, args, seed, x):
    """Predictions by column."""
    model = training.train(recipe(BINARY, data, args, seed), data, args.work)
    sampled = partial(common.sampled, model, x, dropout=True)
    return model, {
        "1 sample": sampled(samples=1),
        "mean": common.predicted(model, x),
        f"{SAMPLES} samples": sampled(samples=SAMPLES),
    }


def variational_dropout(data, args, seed, x):
    """Predictions by column."""
    model = training.train(recipe(VARIATIONAL, data, args, seed), data, args.work)
    return model, {
        "1 sample": common.sampled(model, x, 1),
        "mean": common.by_means(model, x),
        f"{SAMPLES} samples": common.sampled(model, x, SAMPLES),
        "moments": common.by_moments(model, x),
    }


METHODS = {BINARY: binary_dropout, VARIATIONAL: variational_dropout}


def run(args):
    data, (x, y) = common.load(args)
    results = {title: [] for title in METHODS}
    for title, method in METHODS.items():
        for seed in common.seeds(args):
            model, predictions = method(data, args, seed, x)
            row = {name: common.quality(p, y) for name, p in predictions.items()}
            row["log_alpha"] = common.log_alphas(model)
            print(f"{title}, seed {seed}: {row}", flush=True)
            results[title].append(row)
    return results


def table(config, results):
    yield "# Dropout: one sample, the weights' means, an ensemble\n"
    yield f"LeNet-5, {config['data']}, mean of {len(config['seeds'])} seeds; accuracy"
    yield "in percent, of the paper (table 2) in brackets.\n"
    yield "| network | epochs | one sample | mean | 20 samples | moments |"
    yield "|---|---|---|---|---|---|"
    for title, rows in results.items():
        cells = (
            common.cell(common.mean_accuracy(rows, column), paper)
            for column, paper in zip(COLUMNS, (*PAPER[title], None), strict=True)
        )
        epochs = experiment.epochs(config, title)
        yield f"| {title} | {epochs} | " + " | ".join(cells) + " |"
    yield "\nlog α of the four layers after training, and what the means alone reach:\n"
    yield "| seed | convolution | convolution | dense | dense | mean, % |"
    yield "|---|---|---|---|---|---|"
    for seed, row in zip(config["seeds"], results[VARIATIONAL], strict=True):
        alphas = " | ".join(f"{each:.1f}" for each in row["log_alpha"])
        yield f"| {seed} | {alphas} | {row['mean']['accuracy']:.2f} |"


def compare(config, results):
    ours = []
    for title, rows in results.items():
        values = (common.mean_accuracy(rows, column) for column in COLUMNS)
        figures = "/".join(f"{value:.2f}" for value in values if value is not None)
        ours.append(f"{title} {figures}")
    return experiment.Comparison(
        "Table 2, one sample/mean/20 samples(/moments), %",
        ", ".join(f"{title} {'/'.join(map(str, x))}" for title, x in PAPER.items()),
        ", ".join(ours),
        "Of the four layers the first dense one has become a variance layer; the first "
        "convolution draws hardly any noise. Of training rows, single samples get "
        "little more right: the KL divergence outweighs the data term. That is so "
        "[from other starts](mnist_starts.md) too, and more epochs help slowly.",
    )


def main(arguments=None):
    experiment.main(NAME, __doc__, run, table, EPOCHS, arguments=arguments)


if __name__ == "__main__":
    main()
