"""Pruning a variance layer by the standard deviation of its weights, on MNIST.

    python -m examples.paper.mnist_pruning [--data-dir DIR] [--smoke]

LeNet-5-Caffe with its first dense layer a variance layer (Variance Networks, figure
5): accuracy of 20 samples by sparsity, and accuracy and sparsity by threshold,
without further training. Then weights, or whole units, are pruned and what is left
is trained further, at once or pruned step by step; the model is shrunk, and saved.
"""

import gzip
import tempfile
from functools import partial
from pathlib import Path

import keras
import matplotlib
import numpy as np

import keras_variance as kv
from examples.paper import common, experiment

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "mnist_pruning"
MORE = 10
SPARSITIES = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
THRESHOLDS = np.linspace(0, 0.5, 11)
SAMPLES = 20
AT_ONCE, GRADUALLY = "98 % of weights, at once", "98 % of weights, gradually"
UNPRUNED = "not pruned"
# name: arguments of `prune`
VARIANTS = {
    UNPRUNED: None,
    AT_ONCE: {"sparsity": 0.98},
    GRADUALLY: {"sparsity": 0.98},
    "90 % of units": {"sparsity": 0.9, "granularity": "unit"},
    "98 % of units": {"sparsity": 0.98, "granularity": "unit"},
    "50 % of units and filters": {"sparsity": 0.5, "granularity": "unit"},
    "70 % of units and filters": {"sparsity": 0.7, "granularity": "unit"},
    "80 % of units and filters": {"sparsity": 0.8, "granularity": "unit"},
}
SMOKE = (UNPRUNED, GRADUALLY, "80 % of units and filters")


def prepare(model, variant):
    """A copy to train further: pruned, unless that is to happen on the way."""
    model = common.redrawn(model)
    if variant in (UNPRUNED, GRADUALLY):
        return model
    if "filters" not in variant:
        kv.prune(model, **VARIANTS[variant])
        return model
    # `prune` knows variance layers: the convolutions become such with means, for
    # now, with hardly any noise. As stock layers they have no masks, so they are shrunk
    # before training.
    convolutions = [x.name for x in model.layers if type(x) is keras.layers.Conv2D]
    almost_fixed = kv.posteriors.LayerAlpha(-10.0)
    model = kv.transforms.replace(model, almost_fixed, convolutions)
    kv.prune(model, **VARIANTS[variant])
    return kv.transforms.shrink(kv.transforms.draw(model, 0, convolutions))


def train_further(source, variant, data, args, seed):
    """The model of a variant after some more epochs."""
    callbacks = []
    if variant == GRADUALLY:
        epochs = args.epochs or MORE
        end = {"end": epochs / 2}
        callbacks.append(
            partial(kv.callbacks.GradualPruning, **end, **VARIANTS[variant])
        )
    name = "lenet-" + variant.replace(" % of ", "-percent-").replace(",", "")
    return common.train(
        name.replace(" ", "-"),
        partial(prepare, source(), variant),
        data,
        args,
        seed,
        MORE,
        callbacks,
    )


def evaluate(model, x, y):
    """Accuracy and negative log-likelihood of the ensemble."""
    return common.quality(common.sampled(model, x, SAMPLES), y)


def saved_size(model):
    """Bytes of a model's `.keras` file without optimizer: as it is, and compressed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        keras.Model(model.inputs, model.outputs).save(path)
        return len(path.read_bytes()), len(gzip.compress(path.read_bytes()))


def sizes(model):
    """Bytes of a model and of what `shrink` leaves of it, and its parameters but 0."""
    smaller = kv.transforms.shrink(model)
    weights = [np.asarray(x) for x in smaller.weights if x.dtype != "bool"]
    plain, compressed = saved_size(model)
    shrunk, both = saved_size(smaller)
    return {
        "parameters": int(sum(map(np.count_nonzero, weights))),
        "bytes": plain,
        "bytes_compressed": compressed,
        "bytes_shrunk": shrunk,
        "bytes_shrunk_compressed": both,
    }


def threshold_curve(model, x, y, thresholds):
    """Sparsity and accuracy when weights of a standard deviation below it are 0."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    rows = []
    for threshold in thresholds:
        kv.prune(copy, threshold=threshold)
        row = {"threshold": threshold, "sparsity": kv.sparsity(copy)}
        rows.append({**row, **evaluate(copy, x, y)})
    return rows


def plot(curves, thresholds, path):
    """Accuracy by sparsity, a line a seed; accuracy and sparsity by threshold."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    for seed, points in enumerate(curves):
        kv.plots.sparsity_curve(points, left, label=f"seed {seed}", alpha=0.8)
    left.set_title(f"Average of {SAMPLES} samples, no further training")
    left.legend()
    left.grid(alpha=0.3)

    x = [row["threshold"] for row in thresholds]
    accuracy, sparsity = "tab:blue", "tab:orange"
    right.plot(x, [row["accuracy"] for row in thresholds], "o-", color=accuracy)
    right.set_xlabel("threshold of the standard deviation")
    right.set_ylabel("accuracy, %", color=accuracy)
    right.set_title("Seed 0, by threshold")
    right.grid(alpha=0.3)
    other = right.twinx()
    values = [100 * row["sparsity"] for row in thresholds]
    other.plot(x, values, "s--", color=sparsity)
    other.set_ylabel("sparsity, %", color=sparsity)
    figure.tight_layout()
    experiment.save(figure, path)


def table(config, results):
    """Means over seeds."""
    seeds = len(config["seeds"])
    yield "# Pruning a variance layer\n"
    yield f"LeNet-5, one variance dense layer, {config['data']}, {config['epochs']}"
    yield "epochs, weights of the variance layer pruned by their standard deviation;"
    yield f"average of {SAMPLES} samples, mean of {seeds} seeds. Without further"
    yield "training:\n"
    yield "| sparsity, % | accuracy, % | against all weights, points | NLL, nats |"
    yield "|---|---|---|---|"
    curves = np.mean(results["curves"], axis=0)  # (sparsities, 3)
    for sparsity, accuracy, nll in curves:
        points = 100 * (accuracy - curves[0, 1])
        percent = f"{100 * sparsity:.0f} | {100 * accuracy:.2f}"
        yield f"| {percent} | {points:+.3f} | {nll:.4f} |"
    yield f"\n![Accuracy by sparsity and by threshold]({NAME}.png)\n"
    more = results["further_epochs"]
    yield f"Pruned, then trained for {more} epochs more (gradually: pruned in the first"
    yield "half of these; filters: shrunk before), and then shrunk. Units are those of"
    yield "the variance layer, filters those of both convolutions. Sizes are of"
    yield "`.keras` files without optimizer, in kB: plain, gzipped, shrunk, and both.\n"
    yield (
        "| pruned | before training, % | accuracy, % | against not pruned, points "
        "| parameters ≠ 0 | plain | compressed | shrunk | shrunk, compressed |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    mean = {
        name: {key: np.mean([row[key] for row in rows]) for key in rows[0]}
        for name, rows in results["variants"].items()
    }
    for name, row in mean.items():
        points = row["accuracy"] - mean[UNPRUNED]["accuracy"]
        names = ("", "_compressed", "_shrunk", "_shrunk_compressed")
        saved = " | ".join(f"{row['bytes' + each] / 1000:,.0f}" for each in names)
        yield (
            f"| {name} | {row['accuracy_before']:.2f} | {row['accuracy']:.2f} "
            f"| {points:+.3f} | {row['parameters']:,.0f} | {saved} |"
        )
    yield "\nThe mask of pruned weights is saved with the model, a byte a weight: the"
    yield "plain file of a model with pruned weights is larger than the source's."


def run(args):
    data, (x, y) = common.load(args)
    thresholds = THRESHOLDS[::5] if args.smoke else THRESHOLDS
    curves = []
    variants = {name: [] for name in (SMOKE if args.smoke else VARIANTS)}
    for seed in common.seeds(args):
        source = partial(common.one_variance_layer, data, args, seed)
        options = {"likelihood": "categorical", "batch_size": 500, "seed": 0}
        curves.append(kv.sparsity_curve(source(), x, y, SPARSITIES, SAMPLES, **options))
        print(f"seed {seed}: {curves[-1]}", flush=True)
        if seed == args.seed:
            by_threshold = threshold_curve(source(), x, y, thresholds)
        for variant, rows in variants.items():
            before = evaluate(prepare(source(), variant), x, y)["accuracy"]
            model = train_further(source, variant, data, args, seed)
            row = {**evaluate(model, x, y), "accuracy_before": before, **sizes(model)}
            rows.append(row)
            print(f"seed {seed}, {variant}: {row}", flush=True)
    plot(curves, by_threshold, args.results / f"{NAME}.png")
    return {
        "curves": [[(p.sparsity, p.accuracy, p.nll) for p in each] for each in curves],
        "thresholds": by_threshold,
        "variants": variants,
        "further_epochs": args.epochs or MORE,
    }


def compare(config, results):
    accuracy = 100 * np.mean(results["curves"], axis=0)[:, 1]
    curve = dict(zip(SPARSITIES, accuracy, strict=True))
    pruned, whole = (
        np.mean([row["accuracy"] for row in results["variants"][name]])
        for name in (GRADUALLY, UNPRUNED)
    )
    return experiment.Comparison(
        "Figure 5, 98 % of weights pruned, no further training",
        "without loss",
        f"{curve[0.98]:.2f} %, of {curve[0]:.2f} %; at 95 %: {curve[0.95]:.2f} %",
        f"At 98 % {curve[0] - curve[0.98]:.2f} points are lost, {whole - pruned:.2f} "
        "where training goes on while weights are pruned.",
    )


def main(arguments=None):
    experiment.main(NAME, __doc__, run, table, common.EPOCHS, arguments=arguments)


if __name__ == "__main__":
    main()
