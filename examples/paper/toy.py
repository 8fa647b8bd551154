"""Two variance neurons tell four Gaussians apart: the toy problem.

    python -m examples.paper.toy [--smoke]

Variance Networks, figure 1: points around (3, 3), (3, 10), (10, 3) and (10, 10), six
dense layers, the fifth a variance layer of two neurons. Over seeds two kinds of code
are found: the neurons repeat each other, so that either tells all classes apart by
its variance, or both are needed.
"""

import keras
import matplotlib
import numpy as np

import keras_variance as kv
from examples import quickstart
from examples.paper import common, experiment

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "toy"
MEANS = np.array([[3, 3], [3, 10], [10, 3], [10, 10]])
ROWS, SAMPLES, SEEDS = 4000, 200, 20
EPOCHS, BATCH_SIZE = 60, 100
REPEATING, ORTHOGONAL, MIXED = "repeating", "orthogonal", "mixed"
INCOMPLETE = "incomplete"
KINDS = (REPEATING, ORTHOGONAL, MIXED, INCOMPLETE)
COMPLETE = 0.95  # share of rows put into their class


def points(rows, seed):
    random = np.random.default_rng(seed)
    y = random.integers(len(MEANS), size=rows)
    x = MEANS[y] + random.normal(size=(rows, 2))
    return x.astype("float32"), y


def build():
    hidden = [keras.layers.Dense(32, "relu") for _ in range(4)]
    bottleneck = kv.VarianceDense(2, use_bias=False, activation="relu")
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Rescaling(1 / 6.5, offset=-1),
            *hidden,
            bottleneck,
            keras.layers.Dense(len(MEANS)),
        ]
    )


def told_apart(stddev, y):
    """Share of rows that thresholds on neurons' stddev put into their class.

    Below 1, an activation vanishes beside the biases of the last layer.

    Args:
        stddev: (rows, neurons).
    """
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_leaf_nodes=len(MEANS))
    features = np.maximum(stddev, 1)
    return tree.fit(features, y).score(features, y)


def kind(stddev, y):
    """Of a code, from what the neurons tell apart: each alone, and both."""
    if told_apart(stddev, y) < COMPLETE:
        return INCOMPLETE
    complete = [told_apart(each[:, None], y) >= COMPLETE for each in stddev.T]
    return (ORTHOGONAL, MIXED, REPEATING)[sum(complete)]


def run(args):
    rows, samples = ROWS, SAMPLES
    if args.smoke:
        rows, samples = 400, 4
    x, y = points(1000, 1)
    data = points(rows, 0)
    results, activations = [], {}
    for seed in common.seeds(args):
        model = common.train(
            NAME, build, data, args, seed, EPOCHS, rate=3e-3, batch_size=BATCH_SIZE
        )
        stddev = quickstart.activation_stddev(model, x)
        result = {"kind": kind(stddev, y)}
        for name, number in {"sample": 1, "average": samples}.items():
            mean = common.sampled(model, x, number)
            result[name] = common.quality(mean, y)["accuracy"]
        result["stddev"] = [np.median(stddev[y == c], axis=0).tolist() for c in set(y)]
        results.append(result)
        print(f"seed {seed}: {result}", flush=True)
        # The best of either kind is drawn
        if result["average"] > activations.get(result["kind"], (-1,))[0]:
            sample = stddev * np.random.default_rng(0).normal(size=stddev.shape)
            activations[result["kind"]] = result["average"], seed, sample
    plot(activations, y, args.results / f"{NAME}.png")
    return results


def plot(activations, y, path):
    """Samples of both activations, before the ReLU; a panel a kind of code."""
    kinds = [each for each in KINDS if each in activations]
    figure, axes = plt.subplots(2, 2, figsize=(8.5, 7), sharex=True, sharey=True)
    for axis, kind in zip(axes.flat, kinds, strict=False):
        accuracy, seed, values = activations[kind]
        for c, center in enumerate(MEANS):
            label = f"({center[0]}, {center[1]})"
            axis.scatter(*values[y == c].T, s=6, alpha=0.7, label=label)
        for scale in (axis.set_xscale, axis.set_yscale):
            scale("symlog", linthresh=1)
        ticks = (-1000, -10, 0, 10, 1000)
        axis.set(xticks=ticks, yticks=ticks, xlim=(-3e4, 3e4), ylim=(-3e4, 3e4))
        axis.set(title=f"{kind}: seed {seed}, {accuracy:.1f} %")
        axis.grid(alpha=0.3)
    figure.supxlabel("activation of the first neuron")
    figure.supylabel("activation of the second neuron")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0, 0.84, 1))
    figure.legend(
        handles, labels, title="center of class", loc="center right", markerscale=3
    )
    experiment.save(figure, path)


def table(config, results):
    yield "# Four Gaussians through two variance neurons\n"
    yield f"{config['epochs']} epochs of {ROWS:,} points; as figure 1 of the paper. A"
    yield "code is complete if thresholds on both standard deviations put 95 % of the"
    yield "points into their class. It is repeating if those on either neuron alone do,"
    yield "mixed if those on one do, and orthogonal if both neurons are needed.\n"
    yield (
        f"| code | seeds | of these ≥ 99 % | best average of {SAMPLES} samples, % "
        "| one sample, % |"
    )
    yield "|---|---|---|---|---|"
    for kind in KINDS:
        rows = [each for each in results if each["kind"] == kind]
        if rows:
            best = max(rows, key=lambda each: each["average"])
            good = sum(each["average"] >= 99 for each in rows)
            yield (
                f"| {kind} | {len(rows)} | {good} | {best['average']:.1f} "
                f"| {best['sample']:.1f} |"
            )
    yield f"\n![Samples of both activations, by class]({NAME}.png)\n"
    yield "An incomplete code gives two classes the same variances."


def compare(config, results):
    codes = []
    for code in (REPEATING, ORTHOGONAL):
        rows = [row["average"] for row in results if row["kind"] == code]
        codes.append(f"{code} {max(rows):.1f}" if rows else f"{code}: none found")
    good = sum(row["average"] >= 99 for row in results)
    return experiment.Comparison(
        "Figure 1, four Gaussians through two variance neurons, %",
        "near perfect, either code",
        f"{', '.join(codes)}; {good} of {len(results)} seeds ≥ 99",
        "The other seeds have given two classes the same variances.",
    )


def main(arguments=None):
    experiment.main(
        NAME, __doc__, run, table, EPOCHS, SEEDS, "points", BATCH_SIZE, arguments
    )


if __name__ == "__main__":
    main()
