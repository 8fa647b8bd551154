"""What of a variance network for CIFAR can be pruned, and by what.

    python -m examples.paper.cifar_pruning [--data-dir DIR] [--smoke]

Variance Networks, figure 5 and section 7, on the VGG-like network whose last three
convolutions and first dense layer are variance layers: weights of small standard
deviation pruned, in all of these layers and in one at a time; whole units, and what is
left after `shrink`; and pruning by the signal-to-noise ratio, |mean| / standard
deviation, which such layers must not be pruned by. No further training.
"""

import statistics
import time

import keras
import matplotlib
import numpy as np

import keras_variance as kv
from examples.paper import cifar, common, experiment
from examples.paper.follow import split
from examples.paper.mnist_pruning import sizes
from examples.paper.training import kept

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "cifar_pruning"
SPARSITIES = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
ONE_LAYER = 0.98  # as in the paper
UNITS = (0, 0.3, 0.5, 0.7)
RENEWED, BATCH_SIZE = 5000, 125  # training images for BatchNorm's statistics
ROUNDS, TIMED = 7, 200  # of predictions that are timed, and images in each
ALL = "all"


class Evaluation:
    """Quality of a model that is pruned behind its stock layers, which run once.

    Args:
        model: A trained `Sequential` model whose variance layers follow stock layers.
        x: Images of training, (examples, height, width, channels).
        x_test: Test images, likewise.
        y_test: Their integer labels, (examples,).
    """

    def __init__(self, model, x, x_test, y_test):
        prefix, self.suffix = split(model)
        self.features = prefix.predict(x[:RENEWED], 500, verbose=0)
        self.test_features = prefix.predict(x_test, 500, verbose=0)
        self.y = y_test
        self.trained = self.suffix.get_weights()

    def pruned(self, **options):
        """Sparsity and quality, by a pass of moments.

        Args:
            **options: Of `kv.prune`; none to prune nothing.
        """
        copy = self._copy(options)
        return {"sparsity": kv.sparsity(copy), **self._quality(copy)}

    def renewed(self, **options):
        """As `pruned`, and the accuracy with BatchNorm's statistics estimated anew."""
        copy = self._copy(options)
        row = {"sparsity": kv.sparsity(copy), **self._quality(copy)}
        renew(copy, self.features)
        return {**row, "renewed": self._quality(copy)["accuracy"]}

    def _copy(self, options):
        copy = keras.models.clone_model(self.suffix)
        copy.set_weights(self.trained)
        if options:
            kv.prune(copy, **options)
        return copy

    def _quality(self, model):
        return common.quality(common.by_moments(model, self.test_features), self.y)


def renew(model, x):
    """Make BatchNorm's moving statistics those of the outputs that it gets from `x`.

    Pruning takes variance from a layer's outputs, which BatchNorm divides by what it
    was in training. No other weight changes.
    """
    normal = keras.layers.BatchNormalization
    layers = [each for each in model.layers if isinstance(each, normal)]
    momenta = [each.momentum for each in layers]
    for count, start in enumerate(range(0, len(x), BATCH_SIZE)):
        for each in layers:
            each.momentum = count / (count + 1)  # the average of the batches so far
        model(x[start : start + BATCH_SIZE], training=True)
    for each, momentum in zip(layers, momenta, strict=True):
        each.momentum = momentum


def ratios(model):
    """The signal-to-noise ratio of each variance layer's weights, by its name."""
    layers = kv.layers.variance_layers(model)
    values = {each.name: np.exp(-0.5 * np.median(each.log_alpha)) for each in layers}
    return dict(sorted(values.items(), key=lambda item: item[1]))


def by_ratio(evaluation):
    """As the threshold of the signal-to-noise ratio passes one layer after another."""
    rows = []
    for name, ratio in ratios(evaluation.suffix).items():
        row = evaluation.pruned(by="snr", threshold=float(ratio) * 1.001)
        rows.append({"layer": name, "ratio": float(ratio), **row})
    return rows


def shrunk(model, x):
    """What is left of a model by the share of its variance layers' units pruned.

    Seconds are medians, of predictions in turn, for each of the models.
    """
    models = {}
    for share in UNITS:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        if share:
            kv.prune(copy, share, granularity="unit")
        models[share] = copy
    rows = {share: sizes(copy) for share, copy in models.items()}
    smaller = {share: kv.transforms.shrink(copy) for share, copy in models.items()}
    seconds = {share: [] for share in UNITS}
    for round_ in range(ROUNDS + 1):
        for share, each in smaller.items():
            began = time.perf_counter()
            each.predict(x[:TIMED], TIMED, verbose=0)
            if round_:  # the first compiles
                seconds[share].append((time.perf_counter() - began) / len(x[:TIMED]))
    return [
        {"share": share, **row, "seconds": statistics.median(seconds[share])}
        for share, row in rows.items()
    ]


def run(args):
    data, test_data = cifar.load(args)

    def pruned(seed):
        made = cifar.recipe(cifar.VARIANCE, data, args, seed)

        def evaluated():
            model = cifar.trained(made, data, test_data, args)
            evaluation = Evaluation(model, data[0], *test_data)
            names = [each.name for each in kv.layers.variance_layers(model)]
            curve = [evaluation.renewed(sparsity=each) for each in SPARSITIES]
            layers = {
                name: evaluation.renewed(sparsity=ONE_LAYER, layers=[name])
                for name in names
            }
            units = [
                {
                    **row,
                    **evaluation.renewed(sparsity=row["share"], granularity="unit"),
                }
                for row in shrunk(model, test_data[0])
            ]
            return {
                "curve": curve,
                "layers": layers,
                "by_ratio": by_ratio(evaluation),
                "units": units,
            }

        return kept(made, args.work, "pruning", evaluated)

    results = [pruned(seed) for seed in common.seeds(args)]
    name = cifar.result_name(NAME, args.dataset, args.width)
    plot(results, args.results / f"{name}.png")
    return results


def plot(results, path):
    """Accuracy by sparsity, by standard deviation and by signal-to-noise ratio."""
    figure, axis = plt.subplots(figsize=(6.5, 4.2))
    first = results[0]
    whole = first["curve"][0]
    for title, style, rows in (
        ("by standard deviation", "o-", first["curve"]),
        ("by signal-to-noise ratio", "s--", [whole, *first["by_ratio"]]),
    ):
        x = [100 * row["sparsity"] for row in rows]
        axis.plot(x, [row["accuracy"] for row in rows], style, label=title)
    title = "by standard deviation, BatchNorm renewed"
    x = [100 * row["sparsity"] for row in first["curve"]]
    axis.plot(x, [row["renewed"] for row in first["curve"]], "^:", label=title)
    axis.set(xlabel="sparsity of the variance layers, %", ylabel="test accuracy, %")
    axis.set_ylim(0, 102)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    experiment.save(figure, path)


ACCURACIES = "accuracy, % | points | renewed, % | points"


def accuracies(row, whole):
    """Cells of a row, and how far they are from the accuracy of the whole model."""
    values = (row["accuracy"], row["renewed"])
    return " | ".join(f"{value:.2f} | {value - whole:+.2f}" for value in values)


def table(config, results):
    """Of the first seed."""
    first = results[0]
    whole = first["curve"][0]["accuracy"]
    yield f"# Pruning a variance network, {config['data']}\n"
    yield from cifar.setting(config)
    yield "Weights of the four variance layers are pruned by their standard deviation,"
    yield "a share in each layer, without further training; accuracy of a pass of"
    yield "moments, as it is and with BatchNorm's statistics estimated anew from"
    yield f"{RENEWED:,} training images, since pruning takes variance:\n"
    yield f"| sparsity, % | {ACCURACIES} |"
    yield "|---" * 5 + "|"
    for row in first["curve"]:
        yield f"| {100 * row['sparsity']:.0f} | {accuracies(row, whole)} |"
    name = cifar.result_name(NAME, config["dataset"], config["width"])
    yield f"\n![Accuracy by sparsity]({name}.png)\n"
    yield f"{100 * ONE_LAYER:.0f} % of the weights of one layer:\n"
    yield f"| layer | {ACCURACIES} |"
    yield "|---" * 5 + "|"
    for layer, row in first["layers"].items():
        yield f"| {layer} | {accuracies(row, whole)} |"
    yield "\nBy the signal-to-noise ratio, which is one number a layer here, layers go"
    yield "one by one, all weights of each:\n"
    yield "| threshold passes | its ratio | sparsity, % | accuracy, % |"
    yield "|---|---|---|---|"
    for row in first["by_ratio"]:
        yield (
            f"| {row['layer']} | {row['ratio']:.1e} | {100 * row['sparsity']:.0f} "
            f"| {row['accuracy']:.2f} |"
        )
    yield "\nWhole units and filters of these layers, and what `shrink` leaves of the"
    yield "model: parameters, the `.keras` file, and the time of one sample for an"
    yield f"image (batches of {TIMED} on {config['device']}):\n"
    yield f"| units pruned, % | {ACCURACIES} | parameters | file, MB | ms an image |"
    yield "|---" * 8 + "|"
    for row in first["units"]:
        yield (
            f"| {100 * row['share']:.0f} | {accuracies(row, whole)} "
            f"| {row['parameters']:,} | {row['bytes_shrunk'] / 1e6:.1f} "
            f"| {1000 * row['seconds']:.2f} |"
        )


def compare(config, results):
    rows = {round(row["sparsity"], 2): row for row in results[0]["curve"]}
    curve = {sparsity: row["renewed"] for sparsity, row in rows.items()}
    old = {sparsity: row["accuracy"] for sparsity, row in rows.items()}
    layers = [row["renewed"] for row in results[0]["layers"].values()]
    first, *_ = results[0]["by_ratio"]
    return experiment.Comparison(
        f"Section 7 on {config['data']}, weights pruned, no further training",
        "98 % of a layer without loss; by signal-to-noise ratio a crucial layer goes",
        f"98 % of one layer {min(layers):.2f} to {max(layers):.2f} %, of all four "
        f"{curve[ONE_LAYER]:.2f}, of {curve[0]:.2f} %; by signal-to-noise ratio "
        f"{first['accuracy']:.2f} %",
        "With BatchNorm's statistics estimated anew: pruning takes variance, and with "
        f"the old ones 98 % of all four leave {old[ONE_LAYER]:.2f} %.",
    )


def main(arguments=None):
    cifar.main(NAME, cifar.parser(__doc__, 1), run, table, arguments)


if __name__ == "__main__":
    main()
