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
from examples.paper import common

Conv2D, Dense = keras.layers.Conv2D, keras.layers.Dense
EPOCHS = {"one variance dense layer": 40, "all four layers": 15}
MODELS = {
    "one variance dense layer": (Conv2D, Conv2D, kv.VarianceDense, Dense),
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
    options = {"batch_size": 500, "from_logits": True, "verbose": 0}
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


def report(title, seeds):
    """A table of means over seeds, and moments against the largest ensemble."""
    mean = {
        name: {key: np.mean([each[name][key] for each in seeds]) for key in row}
        for name, row in seeds[0].items()
    }
    print(f"\n{title}, mean of {len(seeds)} seeds")
    print(f"{'':24}accuracy       NLL   mutual information   distance")
    for name, row in mean.items():
        print(
            f"  {name:<20}{row['accuracy']:8.2f} % {row['nll']:9.4f} "
            f"{row['mutual_information']:15.4f} nats {row['distance']:10.5f}"
        )
    largest = mean[list(mean)[list(mean).index(AGAIN) - 1]]
    for head in HEADS:
        points = mean[head]["accuracy"] - largest["accuracy"]
        share = mean[head]["nll"] / largest["nll"] - 1
        print(f"  {head}: {points:+.3f} points, NLL {100 * share:+.1f} %")


def main(arguments=None):
    args = common.parser(__doc__).parse_args(arguments)
    data, test_data = common.load(args)
    build = partial(common.lenet, data[0].shape[1:])
    samples = (1, 4) if args.smoke else SAMPLES
    results = {}
    for title, layers in MODELS.items():
        results[title] = []
        for seed in range(args.seeds):
            name = "lenet-" + title.replace(" ", "-")
            make = partial(build, *layers)
            model = common.train(name, make, data, args, seed, EPOCHS[title])
            results[title].append(evaluate(model, *test_data, samples))
            print(f"{title}, seed {seed}: {results[title][-1]}", flush=True)
        report(title, results[title])
    common.write("mnist_moments", args, EPOCHS, results)
    return results


if __name__ == "__main__":
    main()
