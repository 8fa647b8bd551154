"""Which images to label: active learning on MNIST.

    python -m examples.active_learning [--data-dir DIR] [--smoke]

A small convolutional network starts with 20 labelled images. Time after time it is
trained anew, and the 20 images of the pool are labelled about which an acquisition
function says most:

    random              any images
    entropy             H[p(y | x)]: the prediction is unsure
    BALD                H[p(y | x)] − E H[p(y | x, w)]: the samples disagree
    BALD, moments       the same, by one pass of moments in place of 20 samples

How many labels does it take until 95 and 97 % of the test images are right? The curve
is read after each training, by the average of 20 samples.

References: Houlsby et al., Bayesian Active Learning for Classification and Preference
Learning (https://arxiv.org/abs/1112.5745); Gal, Islam & Ghahramani, Deep Bayesian
Active Learning with Image Data (https://arxiv.org/abs/1703.02910).
"""

from functools import partial

import keras
import matplotlib
import numpy as np

import keras_variance as kv
from examples.data import load_data
from examples.paper import experiment, training

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "active_learning"
ACQUISITIONS = {
    "random": "random",
    "entropy": "entropy",
    "bald": "BALD",
    "bald_moments": "BALD, moments",
}
TARGETS = (95, 97)
START, STEP, LABELS = 20, 40, 700
POOL = 4_000  # images of the pool that are scored each time, chosen at random
STEPS, BATCH_SIZE, RATE = 300, 32, 3e-3
SAMPLES = 20
SCALE = 0.1  # of the weights' prior


def network(shape, steps):
    """A convolutional network with a Bayesian dense layer."""
    dense = kv.VarianceDense(
        128,
        use_bias=False,
        posterior="additive",
        prior=kv.priors.Normal(SCALE),
        train_size=START,
    )
    model = keras.Sequential([keras.Input(shape)])
    for filters, size in ((16, 5), (32, 3)):
        model.add(keras.layers.Conv2D(filters, size, padding="same", use_bias=False))
        model.add(keras.layers.BatchNormalization(momentum=0.9))
        model.add(keras.layers.ReLU())
        model.add(keras.layers.MaxPooling2D())
    model.add(keras.layers.Flatten())
    model.add(dense)
    model.add(keras.layers.BatchNormalization(momentum=0.9))
    model.add(keras.layers.ReLU())
    model.add(keras.layers.Dense(10))
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    return model


class Learner:
    """A network that is trained anew on the labels that there are, traced once."""

    def __init__(self, shape, steps):
        self.model = network(shape, steps)
        self.steps = steps
        self.model.optimizer.build(self.model.trainable_variables)
        self.variables = [
            *self.model.weights,  # not the states of the noise
            *self.model.optimizer.variables,
        ]
        self.start = [keras.ops.copy(each) for each in self.variables]

    def fit(self, x, y, seed):
        """Train from the start, on batches that are drawn with replacement."""
        for variable, value in zip(self.variables, self.start, strict=True):
            variable.assign(keras.ops.copy(value))  # JAX deletes it
        kv.set_train_size(self.model, len(x))
        random = np.random.default_rng(seed)
        chosen = random.integers(len(x), size=self.steps * BATCH_SIZE)
        images = shifted(x[chosen], random)
        self.model.fit(images, y[chosen], BATCH_SIZE, shuffle=False, verbose=0)

    def predict(self, x):
        return kv.mc_predict(self.model, x, SAMPLES, 500, seed=0, verbose=0)

    def moments(self, x):
        return kv.moment_predict(self.model, x, 500, verbose=0)


def shifted(images, random):
    """Each image moved by up to two pixels to any side, over zeros."""
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    shape = images.shape[1:3]
    windows = np.lib.stride_tricks.sliding_window_view(padded, shape, (1, 2))
    corners = random.integers(5, size=(2, len(images)))
    return np.moveaxis(windows[np.arange(len(images)), *corners], 1, -1)


def score(acquisition, learner, x, random):
    """What an acquisition function says of images: the larger, the better to label."""
    if acquisition == "random":
        return random.random(len(x))
    if acquisition == "entropy":
        return learner.predict(x).entropy
    if acquisition == "bald":
        return learner.predict(x).mutual_information
    return learner.moments(x).mutual_information


def run_one(acquisition, data, test_data, seed, size):
    """Numbers of labels, and accuracy in percent at each: a dict."""
    (x, y), (x_test, y_test) = data, test_data
    random = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    learner = Learner(x.shape[1:], size["steps"])
    # As many images of each class at first
    first = [
        random.permutation(np.flatnonzero(y == k))[: START // 10] for k in range(10)
    ]
    labelled = list(np.concatenate(first))
    log: dict[str, list] = {"labels": [], "accuracy": []}
    while True:
        learner.fit(x[labelled], y[labelled], seed)
        p = learner.predict(x_test).mean
        log["labels"].append(len(labelled))
        log["accuracy"].append(100 * float(np.mean(p.argmax(axis=-1) == y_test)))
        if len(labelled) >= size["labels"]:
            return log
        rest = np.setdiff1d(np.arange(len(x)), labelled)
        pool = random.choice(rest, min(size["pool"], len(rest)), replace=False)
        scores = score(acquisition, learner, x[pool], random)
        labelled += list(pool[np.argsort(-scores, kind="stable")[:STEP]])


def needed(log, target):
    """Labels after which accuracy is at `target` percent; None if it never is."""
    pairs = zip(log["labels"], log["accuracy"], strict=True)
    return next((labels for labels, accuracy in pairs if accuracy >= target), None)


def size(args):
    """Of an experiment: labels in the end, images of the pool, steps of training."""
    if args.smoke:
        return {"labels": START + 2 * STEP, "pool": 200, "steps": 20}
    return {"labels": LABELS, "pool": POOL, "steps": STEPS}


def run(args):
    data, test_data = load_data("digits" if args.smoke else "mnist", args.data_dir)
    args.work.mkdir(parents=True, exist_ok=True)
    results = {acquisition: [] for acquisition in ACQUISITIONS}
    for seed in range(args.seed, args.seed + args.seeds):
        for acquisition, logs in results.items():
            name = f"active-{acquisition}-seed{seed}" + "-smoke" * args.smoke
            make = partial(run_one, acquisition, data, test_data, seed, size(args))
            logs.append(training.remembered(args.work / f"{name}.json", make))
            labels = {target: needed(logs[-1], target) for target in TARGETS}
            print(f"{acquisition}, seed {seed}: {labels}", flush=True)
    plot(results, args.results / f"{NAME}.png")
    return results


def plot(results, path):
    """Mean accuracy over seeds by labels, a line for each acquisition function."""
    figure, axis = plt.subplots(figsize=(7, 4))
    for acquisition, logs in results.items():
        accuracy = np.mean([log["accuracy"] for log in logs], axis=0)
        axis.plot(logs[0]["labels"], accuracy, label=ACQUISITIONS[acquisition])
    for target in TARGETS:
        axis.axhline(target, color="grey", linewidth=0.8, linestyle=":")
    axis.set(xlabel="labels", ylabel="test accuracy, %", ylim=(70, 100))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    figure.tight_layout()
    experiment.save(figure, path)


def table(config, results):
    yield "# Active learning\n"
    yield "A small convolutional network with a Bayesian dense layer (posterior:"
    yield f"additive; prior: Normal({SCALE})), {config['data']}. It starts with {START}"
    yield f"labelled images; each time it is trained anew for {config['steps']} steps,"
    yield f"and {STEP} more images are labelled, out of {config['pool']:,} that are"
    yield f"drawn at random. Seeds: {', '.join(map(str, config['seeds']))}.\n"
    yield f"![Accuracy by the number of labels]({NAME}.png)\n"
    yield "Labels needed until that share of the test images is right, mean over the"
    yield "seeds (in brackets, each seed's):\n"
    targets = " | ".join(f"{target} %" for target in TARGETS)
    yield f"| acquisition | {targets} | accuracy in the end, % |"
    yield "|---" * (2 + len(TARGETS)) + "|"
    for acquisition, logs in results.items():
        cells = [labels_needed(logs, target) for target in TARGETS]
        cells.append(f"{np.mean([log['accuracy'][-1] for log in logs]):.2f}")
        yield f"| {ACQUISITIONS[acquisition]} | {' | '.join(cells)} |"


def labels_needed(logs, target):
    """In words: the mean over seeds, and each seed's."""
    each = [needed(log, target) for log in logs]
    words = ", ".join("not reached" if x is None else str(x) for x in each)
    return words if None in each else f"{np.mean(each):.0f} ({words})"


def main(arguments=None):
    parser = experiment.parser(__doc__)
    args = experiment.parse(parser, arguments)
    experiment.execute(
        NAME,
        args,
        run,
        table,
        command=experiment.command(NAME, parser, args),
        data="digits (smoke run)" if args.smoke else "MNIST",
        package="examples",
        seeds=list(range(args.seed, args.seed + args.seeds)),
        **size(args),
    )


if __name__ == "__main__":
    main()
