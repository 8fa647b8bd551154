"""Accuracies of single weight samples, and of averages over many, on MNIST.

    python -m examples.paper.mnist_histogram [--data-dir DIR] [--smoke]

Variance Networks, figure 4: LeNet-5-Caffe with its first dense layer a variance
layer. A weight sample is one kernel, the same for all test images.
"""

import keras
import matplotlib
import numpy as np

import keras_variance as kv
from examples.paper import common, experiment

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "mnist_histogram"
AVERAGED, AVERAGES = 200, 20
CHUNK = 50


def predictions(model, x, samples, seed):
    """Class probabilities of weight samples: (rows, samples, classes)."""
    ensemble = kv.transforms.ensemble(model, samples, seed=seed)
    for layer in ensemble.layers:
        if hasattr(layer, "seed_generator"):
            layer.seed_generator.hold()  # the same kernels for each batch
    logits = ensemble.predict(x, batch_size=2000, verbose=0)
    return np.asarray(keras.ops.softmax(logits))


def evaluate(model, x, y, averaged, averages):
    """Accuracies, in percent, of every sample and of each average of `averaged`."""
    model, single, average = common.redrawn(model, estimator="weight_sampling"), [], []
    for index in range(averages):
        mean = np.zeros((len(x), 10))
        for start in range(0, averaged, CHUNK):
            samples = min(CHUNK, averaged - start)
            seed = kv.random.derive(0, index, start)
            each = predictions(model, x, samples, seed)
            single += [100 * common.accuracy(y, each[:, k]) for k in range(samples)]
            mean += each.sum(axis=1)
        average.append(100 * common.accuracy(y, mean))
        print(f"average {index}: {average[-1]:.2f} %", flush=True)
    return {"single": single, "average": average}


def plot(results, averaged, path):
    single, average = results["single"], results["average"]
    figure, axes = plt.subplots(figsize=(7, 4))
    bins = np.arange(min(single) - 0.05, max(*single, *average) + 0.05, 0.02)
    options = {"bins": bins, "density": True, "alpha": 0.7}
    axes.hist(single, **options, label="one weight sample")
    axes.hist(average, **options, label=f"average of {averaged}")
    axes.set(xlabel="test accuracy, %", ylabel="density")
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    experiment.save(figure, path)


def table(config, results):
    yield "# Weight samples, one by one and averaged\n"
    yield f"LeNet-5, one variance dense layer, {config['data']}, {config['epochs']}"
    yield "epochs, seed 0; as figure 4 of the paper.\n"
    yield "| accuracy, % | number | mean | stddev | least | greatest |"
    yield "|---|---|---|---|---|---|"
    titles = {"single": "one weight sample", "average": f"average of {AVERAGED}"}
    for key, title in titles.items():
        values = np.array(results[key])
        yield (
            f"| {title} | {len(values):,} | {values.mean():.2f} | {values.std():.3f} "
            f"| {values.min():.2f} | {values.max():.2f} |"
        )
    yield f"\n![Histograms of accuracies]({NAME}.png)"


def run(args):
    data, (x, y) = common.load(args)
    model = common.one_variance_layer(data, args, args.seed)
    averaged, averages = (4, 2) if args.smoke else (AVERAGED, AVERAGES)
    results = evaluate(model, x, y, averaged, averages)
    plot(results, averaged, args.results / f"{NAME}.png")
    return results


def compare(config, results):
    single, average = (results[key] for key in ("single", "average"))
    return experiment.Comparison(
        "Figure 4, single weight samples, and averages of 200, %",
        "98.5 to 99.5",
        f"{min(single):.2f} to {max(single):.2f}, and {min(average):.2f} to "
        f"{max(average):.2f}",
    )


def main(arguments=None):
    experiment.main(NAME, __doc__, run, table, common.EPOCHS, 1, arguments=arguments)


if __name__ == "__main__":
    main()
