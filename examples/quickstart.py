"""Train a network with a variance layer, and look at where its information is.

    python -m examples.quickstart                      # digits: offline, seconds
    python -m examples.quickstart --dataset mnist --epochs 10 [--data-dir DIR]
    python -m examples.quickstart --prune 0.9

Every weight of the variance layer has mean 0. One sample of the weights
classifies well, the average of 20 samples better, and as well one pass of
moments, without a sample; with the weights at their means, the usual shortcut,
nothing is left but chance.
"""

import argparse
import contextlib
import math
import os
from pathlib import Path

# Messages of TensorFlow would bury the result
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib
import numpy as np

import keras_variance as kv
from examples.data import DATASETS, load_data
from examples.networks import lenet

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SAMPLES = 20
# Of predictions: test sets are one such batch, or several full ones
BATCH_SIZE = 1000
# What `MCPredict` puts into the logs
COMPARED = {
    "one sample": "val_sample_accuracy",
    "mean of the weights": "val_mean_accuracy",
    f"average of {SAMPLES} samples": "val_ensemble_accuracy",
}


def build_model(input_shape, dense):
    """LeNet-5-Caffe around a dense layer."""
    layers = keras.layers
    stock = layers.Conv2D, layers.Conv2D, lambda *_, **__: dense, layers.Dense
    return lenet(input_shape, *stock, momentum=0.9)


class Progress(keras.callbacks.Callback):
    """One line, rewritten after each epoch: what `MCPredict` has measured."""

    def on_train_begin(self, logs=None):
        print("Training …", end="", flush=True)

    def on_epoch_end(self, epoch, logs=None):
        one, mean, average = (100 * logs[key] for key in COMPARED.values())
        print(
            f"\rEpoch {epoch + 1}/{self.params['epochs']}, accuracy: one sample "
            f"{one:.1f} %, mean {mean:.1f} %, {SAMPLES} samples {average:.1f} %  ",
            end="",
            flush=True,
        )

    def on_train_end(self, logs=None):
        print()


def train(model, data, test_data, epochs, batch_size):
    """Train, and return the accuracies on the test data after the last epoch."""
    steps = epochs * -(-len(data[0]) // batch_size)
    rate = keras.optimizers.schedules.PolynomialDecay(1e-3, steps, 0.0)
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    compare = kv.callbacks.MCPredict(
        *test_data,
        samples=SAMPLES,
        predictors=("sample", "mean", "ensemble"),
        metrics=("accuracy",),
        batch_size=BATCH_SIZE,
    )
    callbacks = [compare, Progress()]
    history = model.fit(*data, batch_size, epochs, callbacks=callbacks, verbose=0)
    return {name: history.history[key][-1] for name, key in COMPARED.items()}


def prune(model, sparsity, data, test_data, epochs, batch_size):
    """Set the least variable units to 0, train what is left, leave out the rest.

    Returns the smaller model and its accuracies.
    """
    parameters = model.count_params()
    print(f"\n{kv.prune(model, sparsity, granularity='unit')}\n")
    accuracies = train(model, data, test_data, epochs, batch_size)
    smaller = kv.transforms.shrink(model)
    print(f"\n{kv.transforms.shrink_report(model)}")
    print(f"{parameters:,} parameters → {smaller.count_params():,}")
    return smaller, accuracies


def evaluate(model, test_data, seed):
    """Quality of each way to predict, of which moments need no sample."""
    return kv.evaluate(
        model,
        *test_data,
        likelihood="categorical",
        samples=SAMPLES,
        batch_size=BATCH_SIZE,
        seed=seed,
    )


def activation_stddev(model, x):
    """Standard deviation of the first variance layer's outputs: (rows, neurons)."""
    layer = next(each for each in model.layers if isinstance(each, kv.VarianceLayer))
    prefix = keras.Model(model.inputs, layer.input)
    features = prefix.predict(x, BATCH_SIZE, verbose=0)
    variance = layer.linear(features**2, keras.ops.square(layer.kernel_scale))
    return np.sqrt(keras.ops.convert_to_numpy(variance))


def telling_neurons(stddev, y, neurons):
    """Those whose classes differ most, for their spread within a class."""
    within = np.mean([stddev[y == c].var(axis=0) for c in range(10)], axis=0)
    between = np.var([stddev[y == c].mean(axis=0) for c in range(10)], axis=0)
    return np.argsort(between / (within + 1e-12))[::-1][:neurons]


def plot_activations(model, test_data, path, neurons=4):
    """Standard deviation of a few neurons' activations, image by image."""
    x, y = test_data
    stddev = activation_stddev(model, x)
    best = telling_neurons(stddev, y, neurons)
    size = (3 * len(best), 4)
    figure, axes = plt.subplots(1, len(best), figsize=size, sharey=True, squeeze=False)
    axes = axes.flat
    jitter = np.random.default_rng(0).uniform(-0.35, 0.35, len(y))
    for axis, neuron in zip(axes, best, strict=True):
        axis.scatter(stddev[:, neuron], y + jitter, s=4, c=y, cmap="tab10")
        axis.set(title=f"neuron {neuron}", xlabel="stddev of activation")
        axis.set(xlim=(0, None), yticks=range(10))
    axes[0].set_ylabel("class")
    figure.suptitle("The variance of a neuron's activation tells the classes apart")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments=None):
    parser = build_parser()
    args = parser.parse_args(arguments)
    digits = args.dataset == "digits"
    if digits and args.data_dir:
        parser.error("--data-dir is for other data sets: digits are in scikit-learn")
    epochs, batch_size = (30, 50) if digits else (10, 200)
    epochs = args.epochs or epochs
    keras.utils.set_random_seed(args.seed)
    try:
        layer = kv.VarianceDense(
            500,
            use_bias=False,
            posterior=args.posterior,
            noise=args.noise,
            estimator=args.estimator,
        )
        args.output.mkdir(parents=True, exist_ok=True)
        data, test_data = load_data(args.dataset, args.data_dir)
    except (ValueError, OSError) as error:
        parser.error(str(error))

    model = build_model(data[0].shape[1:], layer)
    rows = train(model, data, test_data, epochs, batch_size)
    if args.prune is not None:
        more = -(-epochs // 3)
        model, rows = prune(model, args.prune, data, test_data, more, batch_size)

    model.save(args.output / "model.keras")
    reloaded = keras.models.load_model(args.output / "model.keras")
    plot_activations(reloaded, test_data, args.output / "activations.png")
    evaluation = evaluate(reloaded, test_data, args.seed)
    evaluation.to_html(args.output / "evaluation.html")
    rows["moments, one pass"] = evaluation.measures["moments"]["accuracy"]

    print()
    kv.summary(reloaded)
    print(f"\nmodel.keras, activations.png and evaluation.html are in {args.output}/")
    print(f"\nAccuracy on {len(test_data[0])} held-out images of {args.dataset}")
    for name, value in rows.items():
        print(f"  {name:<22}{100 * value:6.2f} %")
    return rows


def new_parser(name, description):
    """Of an example that is trained on small images: its data and its seed."""
    parser = argparse.ArgumentParser(
        usage=f"python -m examples.{name} [options]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--dataset",
        choices=[name for name in DATASETS if name != "cifar100"],
        default="digits",
        help="of ten classes; digits come with scikit-learn, others are downloaded",
    )
    add("--data-dir", metavar="DIR", help="folder of DATASET.npz: no download")
    seeds = number(int, 0, 2**31)
    add("--seed", type=seeds, default=0, metavar="N", help="of all noise; default: 0")
    return parser


def build_parser():
    parser = new_parser("quickstart", __doc__)
    add = parser.add_argument
    epochs = number(int, 1)
    add("--epochs", type=epochs, metavar="N", help="default: 30 on digits, else 10")
    add(
        "--posterior",
        choices=kv.posteriors.MEMBERS,
        default="zero_mean",
        help="how a weight's mean and variance are parameterized; default: zero_mean",
    )
    add(
        "--noise",
        choices=kv.noises.MEMBERS,
        default="gaussian",
        help="what a weight is multiplied by; default: gaussian",
    )
    add(
        "--estimator",
        choices=kv.estimators.MEMBERS,
        help="how outputs are drawn; default: local_reparameterization, for other "
        "noise than gaussian flipout",
    )
    add(
        "--prune",
        type=number(float, 0, 1),
        metavar="SHARE",
        help="share of the layer's units to remove, from 0 to below 1, as 0.9",
    )
    add(
        "--output",
        type=Path,
        default=Path("quickstart_output"),
        metavar="DIR",
        help="folder of what it writes; default: quickstart_output",
    )
    return parser


def number(kind, minimum, below=math.inf):
    """A type of options: a number from a minimum to below a limit."""

    def parse(text):
        with contextlib.suppress(ValueError):
            value = kind(text)
            if minimum <= value < below:
                return value
        limit = "" if below == math.inf else f" and below {below}"
        noun = "an integer" if kind is int else "a number"
        raise argparse.ArgumentTypeError(
            f"must be {noun} of at least {minimum}{limit}. Received: {text}"
        )

    return parse


if __name__ == "__main__":
    main()
