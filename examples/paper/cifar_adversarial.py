"""Adversarial examples against networks for CIFAR, with and without noise.

    python -m examples.paper.cifar_adversarial [--data-dir DIR] [--smoke]

Variance Networks, figure 7: a targeted, iterated attack by the sign of the gradient, on
a deterministic network, dropout, a variance network, and ensembles of five. Then what
the figure cannot tell: whether noise survives attacks that average over it.

On TensorFlow, with the Adversarial Robustness Toolbox.
"""

import hashlib
import json
from functools import partial
from typing import NamedTuple

import keras
import matplotlib
import numpy as np

import keras_variance as kv
from examples.paper import cifar, common, experiment
from examples.paper.attacks import Attacked
from examples.paper.training import remembered

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "cifar_adversarial"
SAMPLES = 10  # of a prediction, as in the paper
FIGURE = {  # kind of network, and whether several are averaged
    "deterministic": (cifar.DETERMINISTIC, False),
    "dropout": (cifar.DROPOUT, False),
    "variance": (cifar.VARIANCE, False),
    "deep ensemble": (cifar.DETERMINISTIC, True),
    "variance ensemble": (cifar.VARIANCE, True),
}
TRAINED = "adversarially trained"
NETWORKS = {**FIGURE, TRAINED: (cifar.ADVERSARIAL, False)}
SWEPT = ("deterministic", "dropout", "variance", TRAINED)  # over ε
STEP = 0.5  # of an iteration in the figure, in levels of 255
LEVELS = (0.5, 1, 2, 4, 8, 16, 32, 64)  # ε of projected gradient descent, likewise
LEVEL = 1  # ε at which attacks on the variance network are compared
AVERAGED = (1, 10, 20, 50)  # samples in the gradient of a step
SAMPLED = (cifar.DROPOUT, cifar.VARIANCE)


class Sizes(NamedTuple):
    """How much is computed."""

    targeted: int = 500  # images of the figure
    iterations: int = 40
    images: int = 200  # of all else
    steps: int = 100  # of projected gradient descent
    gradients: int = 1000  # in all, where attacks are compared at equal cost
    queries: int = 2000  # of the attack without gradients


SMOKE = Sizes(4, 2, 4, 2, 50, 2)


class Network:
    """What is attacked: trained models that are averaged, as classifiers of pixels.

    Args:
        kind: One of `cifar.NETWORKS`.
        models: Trained Keras models.
        pixels: Layer that normalizes images with values from 0 to 1.
    """

    def __init__(self, kind, models, pixels):
        self.kind, self.models, self.pixels = kind, models, pixels
        self.made = {}

    def sampled(self, samples=SAMPLES):
        """As it predicts: the average over so many samples of each model, if it has
        noise."""
        return self._attacked(f"{samples} samples", partial(self._average, samples))

    def moments(self):
        """By one pass of moments, with nothing random in it."""
        return self._attacked("moments", kv.transforms.propagate_moments)

    def fixed(self):
        """One sample of the weights, fixed."""
        return self._attacked("fixed", _drawn)

    def _average(self, samples, model):
        if self.kind not in SAMPLED:
            return _softmax(model)
        dropout = self.kind == cifar.DROPOUT
        return kv.transforms.average(model, samples, dropout=dropout)

    def _attacked(self, name, predictor):
        if name not in self.made:
            images = keras.Input(self.models[0].input_shape[1:])
            p = [predictor(model)(self.pixels(images)) for model in self.models]
            average = keras.layers.average(p) if len(p) > 1 else p[0]
            self.made[name] = Attacked(keras.Model(images, average))
        return self.made[name]


def _drawn(model):
    return _softmax(kv.transforms.draw(model))


def _softmax(model):
    return keras.Sequential([model, keras.layers.Softmax()], name=model.name)


def iterated(network, x, goals, sizes):
    """By iteration, in percent, the images that are taken for their goals."""
    attacked = network.sampled()
    rates = []
    for _ in range(sizes.iterations):
        x = attacked.step(x, goals, STEP / 255)
        rates.append(100 * float(np.mean(attacked.classes(x) == goals)))
    return rates


def survival(network, x, y, level, sizes, by=None, steps=None):
    """Accuracy after projected gradient descent, in percent, by fresh samples.

    Args:
        level: ε, in levels of 255; 0 for no attack.
        by: What is attacked, an `Attacked`; the network as it predicts by default.
        steps: Integer, instead of the usual.
    """
    judge = network.sampled()
    if level:
        by, steps = by or judge, steps or sizes.steps
        x = by.descent(x, y, level / 255, steps)
    return accuracy(judge, x, y)


def accuracy(attacked, x, y):
    """In percent."""
    return 100 * float(np.mean(attacked.classes(x) == y))


def attacks(network, x, y, sizes):
    """(title, gradients or queries for an image, function that attacks a variance
    network and returns its accuracy)."""
    pgd = partial(survival, network, x, y, LEVEL, sizes)
    yield "none", 0, partial(survival, network, x, y, 0, sizes)
    equal_steps = [(sizes.steps, n) for n in AVERAGED]
    equal_cost = [(sizes.gradients // n, n) for n in AVERAGED]
    for steps, n in dict.fromkeys(equal_steps + equal_cost):
        title = f"{steps} steps, gradients of the average over {n}"
        make = partial(pgd, steps=steps)
        yield title, n * steps, lambda n=n, make=make: make(network.sampled(n))
    yield "moments, transferred", sizes.steps, lambda: pgd(network.moments())

    def fixed():
        drawn = network.fixed()
        return accuracy(drawn, drawn.descent(x, y, LEVEL / 255, sizes.steps), y)

    yield "noise fixed, in attack and prediction", sizes.steps, fixed

    def square():
        judge = network.sampled()
        changed = judge.square(x, y, LEVEL / 255, sizes.queries)
        return accuracy(judge, changed, y)

    yield "without gradients (Square Attack)", sizes.queries, square


class Experiment:
    """The data, the networks, and figures of them that are kept in the work folder."""

    def __init__(self, args):
        self.args = args
        self.sizes = SMOKE if args.smoke else Sizes()
        self.data, self.test_data = cifar.load(args)
        low, high = (np.array(each) for each in cifar.pixel_range(self.data[0]))
        self.pixels = keras.layers.Rescaling((high - low).tolist(), low.tolist())
        x, self.labels = self.test_data
        self.images = np.clip((x - low) / (high - low), 0, 1).astype("float32")
        self.models = {}

    def first(self, count):
        """So many images, and their labels."""
        return self.images[:count], self.labels[:count]

    def network(self, title):
        """Trained, if it is not there."""
        (kind, _), recipes = NETWORKS[title], self.recipes(title)
        for made in recipes:
            if made.stem not in self.models:
                model = cifar.trained(made, self.data, self.test_data, self.args)
                model = getattr(model, "network", model)
                model.name = f"{kind}_{made.seed}"  # no two alike in one model
                self.models[made.stem] = model
        return Network(kind, [self.models[made.stem] for made in recipes], self.pixels)

    def recipes(self, title):
        kind, several = NETWORKS[title]
        seeds = list(common.seeds(self.args))
        seeds = seeds if several else seeds[:1]
        return [cifar.recipe(kind, self.data, self.args, seed) for seed in seeds]

    def kept(self, title, what, make):
        """A figure of a network."""
        stems = [made.stem for made in self.recipes(title)]
        key = json.dumps([stems, what, self.sizes])
        name = f"{NAME}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
        keras.utils.set_random_seed(0)
        return remembered(self.args.work / name, make)


def run(args):
    setup = Experiment(args)
    sizes = setup.sizes
    results = {"sizes": sizes._asdict(), "figure": {}, "levels": {}, "attacks": []}
    x, y = setup.first(sizes.targeted)
    goals = (y + np.random.default_rng(0).integers(1, 10, len(y))) % 10
    for title in FIGURE:
        make = partial(iterated, setup.network(title), x, goals, sizes)
        results["figure"][title] = setup.kept(title, "figure", make)
        print(f"{title}: {results['figure'][title][-1]:.1f} %", flush=True)
    draw_figure(results["figure"], args.results / f"{picture_name(args)}.png")

    x, y = setup.first(sizes.images)
    for title in SWEPT:
        network, rows = setup.network(title), []
        for level in (0, *LEVELS):
            make = partial(survival, network, x, y, level, sizes)
            rows.append(setup.kept(title, ["level", level], make))
            print(f"{title}, ε = {level}: {rows[-1]:.1f} %", flush=True)
            if rows[-1] == 0:
                break
        results["levels"][title] = rows

    for title, cost, make in attacks(setup.network("variance"), x, y, sizes):
        value = setup.kept("variance", ["attack", LEVEL, title], make)
        print(f"{title}: {value:.1f} %", flush=True)
        results["attacks"].append({"attack": title, "cost": cost, "accuracy": value})
    return results


def draw_figure(rates, path):
    """Success by iteration, of each network."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for title, values in rates.items():
        axes.plot(range(1, len(values) + 1), values, label=title)
    axes.set_xlabel(f"iterations, each of {STEP:g}/255")
    axes.set_ylabel("images taken for their goal, %")
    axes.set_ylim(0, 102)
    axes.legend()
    experiment.save(figure, path)


def picture_name(args):
    return cifar.result_name(NAME, args.dataset, args.width)


def table(config, results):
    sizes = Sizes(**results["sizes"])
    count = len(config["seeds"])
    yield f"# Adversarial examples on {config['data']}\n"
    yield from cifar.setting(config)
    yield f"Dropout and variance networks predict with {SAMPLES} samples, drawn anew in"
    yield f"each call; ensembles are of {count} networks. Attacks differentiate that"
    yield "prediction, averaged over samples, with the [Adversarial Robustness"
    yield "Toolbox](https://github.com/Trusted-AI/adversarial-robustness-toolbox).\n"
    yield "## As in the paper\n"
    yield f"A targeted attack, iterated: each step moves every pixel by {STEP:g}/255"
    yield "along the sign of the gradient towards another class, drawn at random."
    yield f"(The paper says ε = {STEP:g}, not of what; we read 255.) Share of"
    yield f"{sizes.targeted} test images that are then taken for that class:\n"
    name = cifar.result_name(NAME, config["dataset"], config["width"])
    yield f"![Success by iteration]({name}.png)\n"
    shown = [k for k in (1, 2, 3, 5, 10, 20, 40) if k <= sizes.iterations]
    yield "| network, after steps | " + " | ".join(map(str, shown)) + " |"
    yield "|---" * (1 + len(shown)) + "|"
    for title, rates in results["figure"].items():
        cells = (f"{rates[k - 1]:.1f}" for k in shown)
        yield f"| {title} | " + " | ".join(cells) + " |"
    halves = ", ".join(f"{title} {half(x)}" for title, x in results["figure"].items())
    yield f"\nSteps until half of the images are taken for it: {halves}.\n"
    yield "## What noise withstands\n"
    yield f"Accuracy in percent of {sizes.images} test images (two standard errors: at"
    yield f"most {100 / sizes.images**0.5:.0f} points) after {sizes.steps} steps of"
    yield "projected gradient descent away from the label, within ε of each pixel in"
    yield f"levels of 255, the gradient that of the average over {SAMPLES} samples,"
    yield "drawn anew in each step:\n"
    yield "| network | 0 | " + " | ".join(f"{each:g}" for each in LEVELS) + " |"
    yield "|---" * (2 + len(LEVELS)) + "|"
    for title, rows in results["levels"].items():
        cells = [f"{value:.1f}" for value in rows]
        cells += [""] * (1 + len(LEVELS) - len(cells))
        yield f"| {title} | " + " | ".join(cells) + " |"
    yield f"\nAttacks on the variance network compared, at ε = {LEVEL:g}:\n"
    yield "| attack | gradients or queries an image | accuracy left, % |"
    yield "|---|---|---|"
    for row in results["attacks"]:
        yield f"| {row['attack']} | {row['cost']:,} | {row['accuracy']:.1f} |"
    yield from conclusion(results)


def half(rates):
    """The first iteration after which half of the images are taken for their goals."""
    return next((k for k, rate in enumerate(rates, 1) if rate >= 50), "never")


def survivors(results):
    """Accuracy of each network at `LEVEL`, in words."""
    level = 1 + LEVELS.index(LEVEL)
    return {
        title: f"{rows[level]:.1f}" if level < len(rows) else "0.0"
        for title, rows in results["levels"].items()
    }


def conclusion(results):
    """What the tables say of the paper's claim, in numbers."""
    left = survivors(results)
    accuracy = {row["attack"]: row["accuracy"] for row in results["attacks"]}
    averaged = [value for title, value in accuracy.items() if "average over" in title]
    yield f"\nAt ε = {LEVEL:g} the variance network keeps {left['variance']} % and the"
    yield f"deterministic one {left['deterministic']} %; the one trained on adversarial"
    yield f"examples keeps {left[TRAINED]} %. More samples in the gradient, or more"
    yield f"steps, leave {min(averaged):.1f} to {max(averaged):.1f} %: one a step is"
    yield "enough to attack: noise hides no gradient. That a goal is reached later, as"
    yield "in the figure, is no defence: within ε as many images are misclassified."


def compare(config, results):
    left = survivors(results)
    last = {title: rates[-1] for title, rates in results["figure"].items()}
    numbers = ", ".join(f"{title} {value:.0f}" for title, value in last.items())
    return experiment.Comparison(
        "Figure 7, targeted attack's success in the end, %",
        "a decent defense",
        numbers,
        f"At ε = {LEVEL:g} of 255 an attack away from the label leaves "
        f"{left['variance']} % of a variance network, {left['deterministic']} % of a "
        "deterministic one.",
    )


def main(arguments=None):
    cifar.main(NAME, cifar.parser(__doc__, 5), run, table, arguments)


if __name__ == "__main__":
    main()
