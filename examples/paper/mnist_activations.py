"""Distributions of a variance layer's activations, class by class, on MNIST.

    python -m examples.paper.mnist_activations [--data-dir DIR] [--smoke]

Variance Networks, figure 9: LeNet-5-Caffe with its first dense layer a variance
layer. All activations have mean 0; a neuron tells classes apart by a few levels of
their standard deviation.
"""

import matplotlib
import numpy as np
from scipy import stats

import keras_variance as kv
from examples import quickstart
from examples.paper import common, experiment

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "mnist_activations"
NEURONS = 4


def densities(stddev, y, grid):
    """Of an activation by class, over its images and its noise: (classes, grid)."""
    return [
        stats.norm.pdf(grid[:, None], scale=stddev[y == c]).mean(axis=1)
        for c in range(10)
    ]


def plot(stddev, y, neurons, path):
    """Densities above, standard deviations below; a column a neuron."""
    figure, axes = plt.subplots(2, NEURONS, figsize=(3 * NEURONS, 7), sharey=True)
    for (above, below), neuron in zip(axes.T, neurons, strict=True):
        values = stddev[:, neuron]
        limit = 2.5 * values.max()
        grid = np.linspace(-limit, limit, 301)
        for c, density in enumerate(densities(values, y, grid)):
            height = c + 0.9 * density / density.max()
            color = plt.get_cmap("tab10")(c)
            above.fill_between(grid, c, height, color=color, alpha=0.8)
        above.set(title=f"neuron {neuron}", xlabel="activation")
        kv.plots.activations_by_class(values, y, below, s=2).set(ylabel="")
    for row in axes:
        row[0].set(ylabel="class", yticks=range(10))
    figure.tight_layout()
    experiment.save(figure, path)


def table(config, results):
    yield "# Activations by class\n"
    yield f"LeNet-5, one variance dense layer, {config['data']}, {config['epochs']}"
    yield "epochs, seed 0; as figure 9 of the paper: densities of four neurons'"
    yield "activations (each class scaled to the same height), and their standard"
    yield "deviation, image by image. Median of the standard deviation by class:\n"
    yield "| neuron | " + " | ".join(map(str, range(10))) + " |"
    yield "|---" * 11 + "|"
    for neuron, medians in results.items():
        yield f"| {neuron} | " + " | ".join(f"{x:.2g}" for x in medians) + " |"
    yield f"\n![Activations of four neurons by class]({NAME}.png)"


def run(args):
    data, (x, y) = common.load(args)
    model = common.one_variance_layer(data, args, args.seed)
    stddev = quickstart.activation_stddev(model, x)
    neurons = quickstart.telling_neurons(stddev, y, NEURONS)
    plot(stddev, y, neurons, args.results / f"{NAME}.png")
    return {
        str(neuron): [float(np.median(stddev[y == c, neuron])) for c in range(10)]
        for neuron in neurons
    }


def compare(config, results):
    return experiment.Comparison(
        "Figure 9, activations of four neurons by class",
        "a few levels of variance",
        "the same picture",
    )


def main(arguments=None):
    experiment.main(NAME, __doc__, run, table, common.EPOCHS, 1, arguments=arguments)


if __name__ == "__main__":
    main()
