"""One deterministic pass of moments against ensembles of samples, on MNIST.

    python -m examples.paper.mnist_moments [--data-dir DIR] [--smoke]

LeNet-5-Caffe with its first dense layer a variance layer, then with all four layers
stochastic: accuracy and negative log-likelihood of `propagate_moments`, with each
head, and of ensembles. The distance is the total variation of the predictive
distribution from that of the largest ensemble, averaged over rows: beside it stands
that of a second ensemble of the same size.
"""

from functools import partial

import keras
import numpy as np

import keras_variance as kv
from examples.paper import common, experiment

NAME = "mnist_moments"
EPOCHS = {"one variance dense layer": common.EPOCHS, "all four layers": 15}
MODELS = {
    "one variance dense layer": common.ONE_VARIANCE_LAYER,
    # Logits without a mean are symmetric, and can't be trained: α for the last layer
    "all four layers": (
        kv.VarianceConv2D,
        kv.VarianceConv2D,
        kv.VarianceDense,
        partial(kv.VarianceDense, posterior="layer_alpha"),
    ),
}
SAMPLES = (1, 20, 200)
AGAIN = "again, other samples"
HEADS = tuple(kv.moments.heads.MEMBERS)


def evaluate(model, x, y, samples):
    """Quality of each prediction, by name."""
    options = {"likelihood": "categorical", "batch_size": 500, "verbose": 0}
    predictions = {
        f"{number} sample" + "s" * (number > 1): kv.mc_predict(
            model, x, number, seed=0, **options
        )
        for number in samples
    }
    ensemble = list(predictions.values())[-1]
    predictions[AGAIN] = kv.mc_predict(model, x, samples[-1], seed=1, **options)
    for head in HEADS:
        predictions[head] = kv.moment_predict(model, x, head=head, **options)
    return {
        name: {
            **common.quality(each.mean, y),
            "mutual_information": float(each.mutual_information.mean()),
            "distance": float(
                np.abs(each.mean - ensemble.mean).sum(axis=-1).mean() / 2
            ),
        }
        for name, each in predictions.items()
    }


def stages(model, x, y, samples):
    """Quality when the first k variance layers are drawn and moments follow.

    Averaged over samples. That tells which layers the error of moments comes from.
    """
    layers = model.layers
    starts = [k for k, each in enumerate(layers) if isinstance(each, kv.VarianceLayer)]
    options = {"batch_size": 500, "verbose": 0}
    limit = kv.mc_predict(
        model, x, 10 * samples, seed=0, likelihood="categorical", **options
    )
    rows = []
    for drawn, start in enumerate([0, *starts[1:]]):
        inputs = keras.Input(x.shape[1:])
        hidden = inputs
        for layer in layers[:start]:
            hidden = layer(hidden)
        first = keras.Input(hidden.shape[1:])
        rest = keras.Sequential([first, *layers[start:]])
        moments = kv.transforms.propagate_moments(rest, likelihood="categorical")
        both = keras.Model(inputs, moments(hidden))
        calls = samples if drawn else 1
        mean = np.mean([both.predict(x, **options) for _ in range(calls)], axis=0)
        distance = np.abs(mean - limit.mean).sum(axis=-1).mean() / 2
        rows.append({**common.quality(mean, y), "distance": float(distance)})
    return rows


def table(config, results):
    """Means over seeds, and moments against the largest ensemble."""
    yield "# One pass of moments, and ensembles of samples"
    for title, seeds in results["predictions"].items():
        epochs = experiment.epochs(config, title)
        mean = {
            name: {key: np.mean([each[name][key] for each in seeds]) for key in row}
            for name, row in seeds[0].items()
        }
        largest = mean[list(mean)[list(mean).index(AGAIN) - 1]]
        yield f"\nLeNet-5, {title}, {config['data']}, {epochs} epochs,"
        yield f"mean of {len(seeds)} seeds:\n"
        yield (
            "| prediction | accuracy, % | NLL, nats | against the largest ensemble "
            "| mutual information, nats | distance |"
        )
        yield "|---|---|---|---|---|---|"
        for name, row in mean.items():
            points = row["accuracy"] - largest["accuracy"]
            share = 100 * (row["nll"] / largest["nll"] - 1)
            yield (
                f"| {name} | {row['accuracy']:.2f} | {row['nll']:.4f} "
                f"| {points:+.3f} points, NLL {share:+.1f} % "
                f"| {row['mutual_information']:.4f} | {row['distance']:.5f} |"
            )
    yield "\nAll four layers, one seed, 2,000 rows: the first layers drawn, averaged"
    yield "over 50 samples, and moments carried through the rest.\n"
    yield "| layers drawn | accuracy, % | NLL, nats | distance |"
    yield "|---|---|---|---|"
    for drawn, row in enumerate(results["stages"]):
        yield (
            f"| {drawn} | {row['accuracy']:.2f} | {row['nll']:.4f} "
            f"| {row['distance']:.5f} |"
        )
    yield "\nThe distance is the total variation of the predictive distribution from"
    yield "that of the largest ensemble, averaged over rows; it includes the noise of"
    yield "samples on either side."


def run(args):
    data, test_data = common.load(args)
    build = partial(common.lenet, data[0].shape[1:])
    samples = (1, 4) if args.smoke else SAMPLES
    predictions = {}
    for title, layers in MODELS.items():
        predictions[title] = []
        for seed in common.seeds(args):
            name = "lenet-" + title.replace(" ", "-")
            make = partial(build, *layers)
            model = common.train(name, make, data, args, seed, EPOCHS[title])
            predictions[title].append(evaluate(model, *test_data, samples))
            print(f"{title}, seed {seed}: {predictions[title][-1]}", flush=True)
    # Of the last model: all four layers
    x, y = (each[:2000] for each in test_data)
    drawn = stages(model, x, y, samples=2 if args.smoke else 50)
    return {"predictions": predictions, "stages": drawn}


def main(arguments=None):
    experiment.main(NAME, __doc__, run, table, EPOCHS, arguments=arguments)


if __name__ == "__main__":
    main()
