"""Variance layers in a network without biases, of tanh, on MNIST.

    python -m examples.paper.mnist_tanh [--data-dir DIR] [--smoke]

Variance Networks, table 3: with an odd activation and no bias anywhere, nothing but
max pooling tells an activation from its negative. LeNet-5-Caffe with variance layers
in place of some layers, and, for comparison, of none.
"""

from functools import partial

import keras

import keras_variance as kv
from examples.paper import common, experiment

NAME = "mnist_tanh"
NONE = "none, dropout"
DENSE = "first dense"
TRAINING, TRAINING_ROWS = "20 samples, training rows", 5_000
RATE = 1e-2  # at 1e-3 a stochastic second convolution learns far more slowly
EPOCHS = {
    NONE: 16,
    "first convolution": 8,
    "second convolution": 40,
    "both convolutions": 40,
    DENSE: 2,
}
# One sample, and 20
PAPER = {
    NONE: (99.4, 99.4),
    "first convolution": (98.8, 99.4),
    "second convolution": (98.8, 99.2),
    "both convolutions": (93.2, 97.5),
}
_V, _S = kv.VarianceConv2D, keras.layers.Conv2D
LAYERS = {
    NONE: common.STOCK,
    "first convolution": (_V, *common.STOCK[1:]),
    "second convolution": (_S, _V, *common.STOCK[2:]),
    "both convolutions": (_V, _V, *common.STOCK[2:]),
    DENSE: common.ONE_VARIANCE_LAYER,
}
tanh = partial(keras.layers.Activation, "tanh")


def probabilities(model, x, samples):
    """Of the classes; a network without variance layers has one answer."""
    if not kv.layers.variance_layers(model):
        return common.predicted(model, x)
    return common.sampled(model, x, samples)


def evaluate(model, data, test_data):
    """Quality by column; where training rows fare no better, training was short."""
    columns = {
        "1 sample": (1, test_data),
        "20 samples": (20, test_data),
        TRAINING: (20, tuple(each[:TRAINING_ROWS] for each in data)),
    }
    return {
        column: common.quality(probabilities(model, x, samples), y)
        for column, (samples, (x, y)) in columns.items()
    }


def train(title, data, args, seed):
    dropout = 0.5 if title == NONE else 0.0
    options = {"activation": tanh, "biases": False, "dropout": dropout}
    build = partial(common.lenet, data[0].shape[1:], *LAYERS[title], **options)
    name = f"lenet-tanh-{title.replace(', ', '-').replace(' ', '-')}"
    return common.train(name, build, data, args, seed, EPOCHS[title], rate=RATE)


def run(args):
    data, test_data = common.load(args)
    results = {}
    for title in LAYERS:
        results[title] = []
        for seed in common.seeds(args):
            model = train(title, data, args, seed)
            results[title].append(evaluate(model, data, test_data))
            print(f"{title}, seed {seed}: {results[title][-1]}", flush=True)
    return results


def table(config, results):
    yield "# No biases, tanh\n"
    yield f"LeNet-5, {config['data']}, mean of {len(config['seeds'])} seeds; accuracy"
    yield "in percent, of the paper (table 3) in brackets; the order of its rows is our"
    yield f"reading. The last column: 20 samples, the first {TRAINING_ROWS:,} training"
    yield "rows.\n"
    yield "| variance layers | epochs | one sample | 20 samples | training rows |"
    yield "|---|---|---|---|---|"
    for title, rows in results.items():
        papers = (*PAPER.get(title, (None, None)), None)
        cells = (
            common.cell(common.mean_accuracy(rows, column), paper)
            for column, paper in zip(rows[0], papers, strict=True)
        )
        epochs = experiment.epochs(config, title)
        yield f"| {title} | {epochs} | " + " | ".join(cells) + " |"
    yield "\nBehind the first dense layer nothing pools: its logits are symmetric, z as"
    yield "likely as −z, and one sample can't be right more than half of the time."


def compare(config, results):
    ours = (
        f"{common.mean_accuracy(results[title], '1 sample'):.2f}"
        f"/{common.mean_accuracy(results[title], '20 samples'):.2f}"
        for title in PAPER
    )
    return experiment.Comparison(
        f"Table 3, tanh, no biases, one sample/20, %; variance: {'; '.join(PAPER)}",
        "; ".join("/".join(map(str, row)) for row in PAPER.values()),
        "; ".join(ours),
        "One stochastic convolution is below the paper's, more so by single samples of "
        "the second, which takes many epochs to learn: [more](mnist_longer.md) bring "
        "it nearer. Training rows are fitted better than test rows: where there is "
        "noise there is no dropout, as in the paper's code.",
    )


def main(arguments=None):
    experiment.main(NAME, __doc__, run, table, EPOCHS, arguments=arguments)


if __name__ == "__main__":
    main()
