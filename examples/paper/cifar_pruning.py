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
ROUNDS, TIMED = 7, 200  # of predictions that are timed, and images in each
ALL = "all"


class Evaluation:
    """Quality of a model that is pruned behind its stock layers, which run once.

    Args:
        model: A trained `Sequential` model whose variance layers follow stock layers.
        x: Test images, (examples, height, width, channels).
        y: Integer labels, (examples,).
    """

    def __init__(self, model, x, y):
        prefix, self.suffix = split(model)
        self.features = prefix.predict(x, 500, verbose=0)
        self.y = y
        self.trained = self.suffix.get_weights()

    def pruned(self, **options):
        """Sparsity and quality, by a pass of moments.

        Args:
            **options: Of `kv.prune`; none to prune nothing.
        """
        copy = keras.models.clone_model(self.suffix)
        copy.set_weights(self.trained)
        if options:
            kv.prune(copy, **options)
        quality = common.quality(common.by_moments(copy, self.features), self.y)
        return {"sparsity": kv.sparsity(copy), **quality}


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
            evaluation = Evaluation(model, *test_data)
            names = [each.name for each in kv.layers.variance_layers(model)]
            curve = [evaluation.pruned(sparsity=each) for each in SPARSITIES]
            layers = {
                name: evaluation.pruned(sparsity=ONE_LAYER, layers=[name])
                for name in names
            }
            units = [
                {**row, **evaluation.pruned(sparsity=row["share"], granularity="unit")}
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
    plot(results, picture(args.dataset, args.width, args.results))
    return results


def picture(dataset, width, folder):
    """Path of the picture in a folder."""
    return folder / f"{cifar.result_name(NAME, dataset, width)}.png"


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
    axis.set(xlabel="sparsity of the variance layers, %", ylabel="test accuracy, %")
    axis.set_ylim(0, 102)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    experiment.save(figure, path)


def table(config, results):
    """Of the first seed."""
    first = results[0]
    whole = first["curve"][0]["accuracy"]
    yield f"# Pruning a variance network, {config['data']}\n"
    yield from cifar.setting(config)
    yield "Weights of the four variance layers are pruned by their standard deviation,"
    yield "a share in each layer, without further training; accuracy of a pass of"
    yield "moments:\n"
    yield "| sparsity, % | accuracy, % | against all weights, points | NLL, nats |"
    yield "|---|---|---|---|"
    for row in first["curve"]:
        yield (
            f"| {100 * row['sparsity']:.0f} | {row['accuracy']:.2f} "
            f"| {row['accuracy'] - whole:+.2f} | {row['nll']:.3f} |"
        )
    name = picture(config["dataset"], config["width"], experiment.RESULTS).name
    yield f"\n![Accuracy by sparsity]({name})\n"
    yield f"{100 * ONE_LAYER:.0f} % of the weights of one layer:\n"
    yield "| layer | accuracy, % | against all weights, points |"
    yield "|---|---|---|"
    for layer, row in first["layers"].items():
        yield f"| {layer} | {row['accuracy']:.2f} | {row['accuracy'] - whole:+.2f} |"
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
    yield "| units pruned, % | accuracy, % | parameters | file, MB | ms an image |"
    yield "|---|---|---|---|---|"
    for row in first["units"]:
        yield (
            f"| {100 * row['share']:.0f} | {row['accuracy']:.2f} "
            f"| {row['parameters']:,} | {row['bytes_shrunk'] / 1e6:.1f} "
            f"| {1000 * row['seconds']:.2f} |"
        )


def compare(config, results):
    curve = {round(row["sparsity"], 2): row["accuracy"] for row in results[0]["curve"]}
    first, *_ = results[0]["by_ratio"]
    return experiment.Comparison(
        f"Section 7 on {config['data']}, weights pruned, no further training",
        "98 % of a layer without loss; by signal-to-noise ratio a crucial layer goes",
        f"{ONE_LAYER:.0%} of four layers {curve[ONE_LAYER]:.2f} %, of {curve[0]:.2f} "
        f"%; by signal-to-noise ratio {first['accuracy']:.2f} %",
    )


def main(arguments=None):
    cifar.main(NAME, cifar.parser(__doc__, 1), run, table, arguments)


if __name__ == "__main__":
    main()
