"""What networks say of images unlike those that they were trained on.

    python -m examples.out_of_distribution --dataset mnist --data-dir DIR [--smoke]
    python -m examples.out_of_distribution --dataset cifar10 --data-dir DIR

Do scores of uncertainty separate images of another data set from test images? And are
probabilities still right when test images are rotated, or noisy?

    mnist      LeNet-5, against the letters of notMNIST
    cifar10    the VGG-like network, against CIFAR-100 and Tiny-ImageNet

Deterministic networks, alone and averaged, dropout, and variance networks; the last two
by one sample, the average of 20, and one pass of moments. DIR has the files that
`load_data` and `load_test_images` of `examples.data` read.

References: Hendrycks & Gimpel, A Baseline for Detecting Misclassified and
Out-of-Distribution Examples (https://arxiv.org/abs/1610.02136); Ovadia et al., Can You
Trust Your Model's Uncertainty? (https://arxiv.org/abs/1906.02530).
"""

import hashlib
import json
from functools import partial

import keras
import matplotlib
import numpy as np

import keras_variance as kv
from examples import data as datasets
from examples.networks import lenet
from examples.paper import cifar, common, experiment, training
from examples.predictors import MOMENTS, OFF, ROWS, SAMPLES, SCORES, Predictor, Row

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "out_of_distribution"
EPOCHS, DROPOUT_RATE = 10, 0.5
WIDTH, MEMBERS = 0.125, 5
OUTSIDE = {
    "mnist": (datasets.NOTMNIST,),
    "cifar10": ("cifar100", datasets.TINY_IMAGENET),
}
TITLES = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    datasets.NOTMNIST: "notMNIST",
    datasets.TINY_IMAGENET: "Tiny-ImageNet",
}
NOTES = {
    datasets.TINY_IMAGENET: "Some of its classes are CIFAR-10's too, such as cats, "
    "dogs, frogs and cars: no score can be perfect.\n"
}
SHIFTS = {
    "mnist": {
        "rotation": (0, 15, 30, 45, 60, 75, 90),
        "noise": (0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8),
    },
    "cifar10": {"noise": (0, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2)},
}
UNITS = {"rotation": "degrees", "noise": "standard deviation"}
SHIFTED = 5_000  # test images
QUALITIES = {"accuracy": "accuracy, %", "nll": "NLL, nats", "ece": "ECE"}


def rotated(images, degrees):
    """Images (examples, height, width, channels), turned around their centers."""
    from scipy import ndimage

    turned = ndimage.rotate(images, degrees, (2, 1), reshape=False, order=1)
    return np.clip(turned, 0, 1)


def noisy(images, stddev):
    """Images with Gaussian noise, at each level the same but for its scale."""
    noise = np.random.default_rng(0).normal(size=images.shape).astype("float32")
    return np.clip(images + np.float32(stddev) * noise, 0, 1)


SHIFT = {"rotation": rotated, "noise": noisy}


class Setup:
    """Data, and networks trained on them.

    Attributes:
        data: `(x, y)` of training, as networks take it.
        inside: Test images from 0 to 1, and their labels.
        outside: {data set: images from 0 to 1}.
    """

    def __init__(self, args):
        self.args = args
        self.data, self.inside = self._load()
        self.outside = {name: self._load_outside(name) for name in args.outside}
        self.normalized = lambda x: x
        if args.dataset == "cifar10":
            self.normalized = datasets.normalizer(self.data[0])
            self.data = self.normalized(self.data[0]), self.data[1]

    def _load(self):
        if self.args.dataset == "mnist":
            return common.load(self.args)
        if self.args.smoke:
            return cifar.random_images(10)
        return datasets.load_data(self.args.dataset, self.args.data_dir)

    def _load_outside(self, name):
        if self.args.smoke:  # noise
            shape = self.inside[0].shape
            return np.random.default_rng(1).random(shape).astype("float32")
        return datasets.load_test_images(name, self.args.data_dir)

    def recipe(self, network, seed):
        """The `Recipe` of one of `cifar.NETWORKS`."""
        if self.args.dataset == "cifar10":
            return cifar.recipe(network, self.data, self.args, seed)
        variance = network == cifar.VARIANCE
        layers = common.ONE_VARIANCE_LAYER if variance else common.STOCK
        dropout = DROPOUT_RATE if network == cifar.DROPOUT else 0.0
        build = partial(lenet, self.data[0].shape[1:], *layers, dropout=dropout)
        name = f"lenet-{network}"
        return common.recipe(name, build, self.data, self.args, seed, EPOCHS)

    def trained(self, recipe):
        """The model of a recipe."""
        if self.args.dataset == "cifar10":
            x, y = self.inside
            test_data = self.normalized(x), y
            return cifar.trained(recipe, self.data, test_data, self.args)
        return training.train(recipe, self.data, self.args.work)

    def measured(self, row, recipes):
        """`detection` and `shifts` of networks as a row predicts, kept in a file."""
        settings = [row, [each.stem for each in recipes], [*self.outside]]
        settings += [SHIFTS[self.args.dataset], SHIFTED]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]

        def make():
            models = [self.trained(each) for each in recipes]
            keras.utils.set_random_seed(0)
            predictor = Predictor(row, models)
            return {
                "detection": self.detection(predictor),
                "shifts": self.shifts(predictor),
            }

        return training.kept(recipes[0], self.args.work, f"{NAME}-{key}", make)

    def detection(self, predictor):
        """{data set: {score: measures}}."""
        inside = predictor.scores(self.normalized(self.inside[0]))
        found = {}
        for name, x in self.outside.items():
            outside = predictor.scores(self.normalized(x))
            found[name] = {
                score: kv.metrics.ood_metrics(inside[score], outside[score])._asdict()
                for score in outside
            }
        return found

    def shifts(self, predictor):
        """{shift: quality at each level}."""
        x, y = (each[:SHIFTED] for each in self.inside)

        def quality(images):
            return common.quality(predictor.predict(self.normalized(images)).mean, y)

        return {
            shift: [quality(SHIFT[shift](x, level)) for level in levels]
            for shift, levels in SHIFTS[self.args.dataset].items()
        }


def run(args):
    """{row: results for each network}."""
    setup = Setup(args)
    results = {}
    for row in ROWS:
        if row.together and args.members < 2:
            continue
        deterministic = row.network == cifar.DETERMINISTIC
        count = args.members if deterministic else args.seeds
        seeds = range(args.seed, args.seed + count)
        recipes = [setup.recipe(row.network, seed) for seed in seeds]
        groups = [recipes] if row.together else [[each] for each in recipes]
        results[row.title] = [setup.measured(row, each) for each in groups]
        print(f"{row.title}: {results[row.title][0]['detection']}", flush=True)
    plot(SHIFTS[args.dataset], results, args.results / f"{name_of(args.dataset)}.png")
    return results


def plot(shifts, results, path):
    """Quality by level: a line of axes for each shift."""
    size = len(shifts), len(QUALITIES)
    figure, axes = plt.subplots(
        *size,
        figsize=(12, 0.8 + 3.2 * len(shifts)),
        squeeze=False,
        layout="constrained",
    )
    for (shift, levels), line in zip(shifts.items(), axes, strict=True):
        for (quality, label), axis in zip(QUALITIES.items(), line, strict=True):
            for row in ROWS:
                if row.title in results:
                    values = curve(results[row.title], shift, quality)
                    axis.plot(levels, values, label=row.title, **style(row))
            axis.set(xlabel=f"{shift}, {UNITS[shift]}", ylabel=label)
            axis.grid(alpha=0.3)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=5)
    experiment.save(figure, path)


def style(row):
    """Of a row's line: a color for each kind of network."""
    colors = {cifar.DETERMINISTIC: "C0", cifar.DROPOUT: "C1", cifar.VARIANCE: "C2"}
    color = {"color": colors[row.network]}
    if row.by == MOMENTS:
        return {**color, "linestyle": "", "marker": "o", "markerfacecolor": "none"}
    lines = {OFF: ":", 1: "--", SAMPLES: "-"}
    return {**color, "linestyle": "-" if row.together else lines[row.by]}


def curve(logs, shift, quality):
    """By level, the mean over networks."""
    values = [[level[quality] for level in log["shifts"][shift]] for log in logs]
    return np.mean(values, axis=0)


def name_of(dataset):
    """Of the result's files."""
    return f"{NAME}_{dataset}"


def table(config, results):
    dataset = config["dataset"]
    yield f"# Out of distribution: {config['data']}\n"
    yield from setting(config)
    for name in config["outside"]:
        yield from detection_table(config["data"], name, results)
    yield "\n## Calibration under shift\n"
    yield f"![Accuracy, NLL and ECE by shift]({name_of(dataset)}.png)\n"
    yield f"The first {SHIFTED:,} test images; pixels are from 0 to 1, and clipped."
    for shift, levels in SHIFTS[dataset].items():
        yield from shift_table(shift, levels, results)


def setting(config):
    """Networks, and how they were trained."""
    network, layers = "LeNet-5", "in their first dense layer"
    if config["dataset"] == "cifar10":
        network = f"The VGG-like network at width {config['width']:g}"
        layers = "in their last three convolutions and first dense layer"
    recipes = config["recipes"]
    counts = ", ".join(
        f"{sum(f'-{kind}' in each['name'] for each in recipes)} {kind}"
        for kind in (cifar.DETERMINISTIC, cifar.DROPOUT, cifar.VARIANCE)
    )
    spent = [each["cpu_seconds"] for each in recipes]
    yield f"{network}, {config['data']}, {config['epochs']} epochs; networks from"
    yield f"different seeds: {counts}. Training took {min(spent):,.0f} to"
    yield f"{max(spent):,.0f} CPU seconds per network. Variance networks have noise"
    yield f"{layers}. Numbers are means over networks; the deep ensemble averages all"
    yield "deterministic ones."


def detection_table(inside, name, results):
    """One data set against another."""
    outside = TITLES[name]
    yield f"\n## {inside} and {outside}\n"
    yield NOTES.get(name, "") + "AUROC in percent: the probability that an image of"
    yield f"{outside} has a higher score than one of {inside}. In brackets the share,"
    yield f"in percent, of {inside}'s images flagged where 95 % of {outside}'s are:\n"
    yield f"| network | {' | '.join(SCORES.values())} |"
    yield "|---" * (1 + len(SCORES)) + "|"
    known = {}
    for title, logs in results.items():
        cells = ["–"] * len(SCORES)
        for k, score in enumerate(SCORES):
            if score in logs[0]["detection"][name]:
                each = [log["detection"][name][score] for log in logs]
                known[title, score] = [100 * x["auroc"] for x in each]
                auroc = np.mean(known[title, score])
                cells[k] = (
                    f"{auroc:.1f} ({100 * np.mean([x['fpr95'] for x in each]):.1f})"
                )
        yield f"| {title} | {' | '.join(cells)} |"
    yield from detection_conclusion(known)


def detection_conclusion(known):
    """Sentences, of {(row's title, score): AUROC of each network}."""
    auroc = {key: np.mean(values) for key, values in known.items()}
    title, score = max(auroc, key=auroc.get)
    yield f"\nHighest AUROC: {title}, by {SCORES[score]}."
    several = [np.std(values, ddof=1) for values in known.values() if len(values) > 1]
    if several:
        yield "Standard deviation of an AUROC over networks: up to"
        yield f"{max(several):.1f} points."
    have = [title for title, score in auroc if score == "mutual_information"]
    better = [
        auroc[title, "mutual_information"] > auroc[title, "entropy"] for title in have
    ]
    yield f"Mutual information separates better than entropy in {sum(better)} of"
    yield f"{len(better)} rows that have it."
    differences = [
        abs(
            auroc[Row(network, MOMENTS).title, score]
            - auroc[Row(network, SAMPLES).title, score]
        )
        for network in (cifar.DROPOUT, cifar.VARIANCE)
        for score in list(SCORES)[:3]
    ]
    yield f"Moments instead of {SAMPLES} samples change AUROC by at most"
    yield f"{max(differences):.1f} points."


def shift_table(shift, levels, results):
    """Quality at the first level, the middle one and the last."""
    middle = len(levels) // 2
    chosen = 0, middle, len(levels) - 1
    yield f"\n### By {shift}\n"
    at = ", ".join(f"{levels[k]:g}" for k in chosen)
    yield f"Accuracy in percent, NLL in nats and ECE at {at} ({UNITS[shift]}):\n"
    titles = [
        f"{label.split(',')[0]}, {levels[k]:g}"
        for label in QUALITIES.values()
        for k in chosen
    ]
    yield f"| network | {' | '.join(titles)} |"
    yield "|---" * (1 + len(titles)) + "|"
    curves = {
        title: {quality: curve(logs, shift, quality) for quality in QUALITIES}
        for title, logs in results.items()
    }
    for title, each in curves.items():
        cells = [
            f"{each[quality][k]:.{digits}f}"
            for quality, digits in zip(QUALITIES, (2, 3, 3), strict=True)
            for k in chosen
        ]
        yield f"| {title} | {' | '.join(cells)} |"
    best = {
        quality: (max if quality == "accuracy" else min)(
            curves, key=lambda title: curves[title][quality][middle]
        )
        for quality in QUALITIES
    }
    yield f"\nAt {levels[middle]:g}, highest accuracy: {best['accuracy']}; lowest NLL:"
    yield f"{best['nll']}; lowest ECE: {best['ece']}."


def new_parser():
    parser = experiment.parser(__doc__)
    add = parser.add_argument
    add("--dataset", choices=OUTSIDE, default="mnist", help="default: %(default)s")
    add("--outside", nargs="+", help="data sets to tell apart; default: see above")
    add("--members", type=int, default=MEMBERS, help="deterministic networks")
    add("--width", type=float, default=WIDTH, help="of the VGG-like network")
    parser.set_defaults(batch_size=cifar.BATCH_SIZE, precision="float32")
    return parser


def main(arguments=None):
    parser = new_parser()
    args = experiment.parse(parser, arguments)
    command = experiment.command(NAME, parser, args)
    known = OUTSIDE[args.dataset]
    args.outside = args.outside or list(known)
    if not {*args.outside} <= {*known}:
        parser.error(f"--outside must be some of {known} for {args.dataset}")
    data = TITLES[args.dataset]
    if args.smoke:
        args.members, args.width = 2, cifar.SMOKE_WIDTH
        data = "digits (smoke run)" if args.dataset == "mnist" else "noise (smoke run)"
    args.epochs = args.epochs or EPOCHS
    experiment.execute(
        name_of(args.dataset),
        args,
        run,
        table,
        EPOCHS,
        command=command,
        package="examples",
        data=data,
        dataset=args.dataset,
        outside=args.outside,
        width=args.width,
        members=args.members,
    )


if __name__ == "__main__":
    main()
