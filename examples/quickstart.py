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
from pathlib import Path

import keras
import matplotlib
import numpy as np

import keras_variance as kv
from examples.data import DATASETS, load_data
from examples.networks import lenet

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SAMPLES = 20


def build_model(input_shape, dense):
    """LeNet-5-Caffe around a dense layer."""
    layers = keras.layers
    stock = layers.Conv2D, layers.Conv2D, lambda *_, **__: dense, layers.Dense
    return lenet(input_shape, *stock, momentum=0.9)


def train(model, data, test_data, epochs, batch_size):
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
    )
    model.fit(*data, batch_size, epochs, callbacks=[compare])


def prune(model, sparsity, data, test_data, epochs, batch_size):
    """Set the least variable units to 0, train what is left, leave out the rest."""
    parameters = model.count_params()
    print(f"\n{kv.prune(model, sparsity, granularity='unit')}")
    train(model, data, test_data, epochs, batch_size)
    smaller = kv.transforms.shrink(model)
    print(f"\n{kv.transforms.shrink_report(model)}")
    print(f"{parameters:,} parameters → {smaller.count_params():,}")
    return smaller


def accuracies(model, test_data):
    """Accuracy of one sample, of the weights' means, the ensemble and moments."""
    x, y = test_data
    mean = kv.transforms.propagate_mean(model)
    options = {"likelihood": "categorical", "verbose": 0}

    def monte_carlo(samples):
        return kv.mc_predict(model, x, samples, **options).mean

    predictions = {
        "one sample": monte_carlo(1),
        "mean of the weights": mean.predict(x, verbose=0),
        f"average of {SAMPLES} samples": monte_carlo(SAMPLES),
        "moments, one pass": kv.moment_predict(model, x, **options).mean,
    }
    return {name: np.mean(p.argmax(axis=-1) == y) for name, p in predictions.items()}


def activation_stddev(model, x):
    """Standard deviation of the first variance layer's outputs: (rows, neurons)."""
    layer = next(each for each in model.layers if isinstance(each, kv.VarianceLayer))
    features = keras.Model(model.inputs, layer.input).predict(x, verbose=0)
    return np.sqrt(layer.linear(features**2, keras.ops.square(layer.kernel_scale)))


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
    figure, axes = plt.subplots(1, neurons, figsize=(3 * neurons, 4), sharey=True)
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", choices=DATASETS, default="digits")
    parser.add_argument("--data-dir", help="folder of DATASET.npz; default: download")
    parser.add_argument("--epochs", type=int, help="default: 30 on digits, else 10")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", choices=kv.noises.MEMBERS, default="gaussian")
    parser.add_argument("--estimator", choices=kv.estimators.MEMBERS)
    parser.add_argument(
        "--posterior", choices=kv.posteriors.MEMBERS, default="zero_mean"
    )
    parser.add_argument("--prune", type=float, help="share of units, from 0 to below 1")
    parser.add_argument("--output", type=Path, default=Path("quickstart_output"))
    args = parser.parse_args(arguments)

    keras.utils.set_random_seed(args.seed)
    data, test_data = load_data(args.dataset, args.data_dir)
    layer = kv.VarianceDense(
        500,
        use_bias=False,
        posterior=args.posterior,
        noise=args.noise,
        estimator=args.estimator,
    )
    model = build_model(data[0].shape[1:], layer)
    epochs, batch_size = (30, 50) if args.dataset == "digits" else (10, 200)
    epochs = args.epochs or epochs
    train(model, data, test_data, epochs, batch_size)
    if args.prune is not None:
        more = -(-epochs // 3)
        model = prune(model, args.prune, data, test_data, more, batch_size)

    args.output.mkdir(parents=True, exist_ok=True)
    model.save(args.output / "model.keras")
    reloaded = keras.models.load_model(args.output / "model.keras")
    plot_activations(reloaded, test_data, args.output / "activations.png")

    kv.summary(reloaded)
    rows = accuracies(reloaded, test_data)
    print(f"\nAccuracy on {len(test_data[0])} held-out rows of {args.dataset}")
    for name, value in rows.items():
        print(f"  {name:<22}{100 * value:6.2f} %")
    print(f"The model and a picture of its activations are in {args.output}/")
    return rows


if __name__ == "__main__":
    main()
