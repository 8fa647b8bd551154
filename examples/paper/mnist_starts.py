"""Variational dropout in all four layers, from different starts, on MNIST.

    python -m examples.paper.mnist_starts [--data-dir DIR] [--smoke]

What becomes of each layer, and how good single samples get, might hang on where log α
starts, on a KL divergence that is there from the beginning, or on epochs: the network
of table 2, trained with one of these changed at a time.
"""

from functools import partial

import numpy as np

import keras_variance as kv
from examples.paper import common, experiment, training

NAME = "mnist_starts"
FEW, MANY = "log α from 0", "log α from 0, more epochs"
LOW, ANNEALED = "log α from −5", "log α from 0, KL annealed"
EPOCHS = {FEW: 10, LOW: 10, ANNEALED: 10, MANY: common.ALL_EPOCHS}
ANNEALING_EPOCHS = 5
TRAINING_ROWS = 5_000


def train(title, data, args, seed):
    # By default, the network of table 2
    name, posterior, callbacks = "layer_alpha", common.POSTERIORS["layer_alpha"], ()
    if title == LOW:
        name, posterior = "low", kv.posteriors.LayerAlpha(-5.0)
    elif title == ANNEALED:
        name = "annealed"
        callbacks = [partial(kv.callbacks.KLAnnealing, ANNEALING_EPOCHS)]
    epochs = EPOCHS[title]
    options = seed, name, posterior, epochs, callbacks
    recipe = common.all_four_layers(data, args, *options)
    return training.train(recipe, data, args.work)


def evaluate(model, data, test_data):
    (x, y), (x_train, y_train) = test_data, (each[:TRAINING_ROWS] for each in data)

    def accuracy(x, y, samples):
        return common.quality(common.sampled(model, x, samples), y)["accuracy"]

    return {
        "log_alpha": common.log_alphas(model),
        "one sample": accuracy(x, y, 1),
        "20 samples": accuracy(x, y, 20),
        "one sample, training rows": accuracy(x_train, y_train, 1),
    }


def run(args):
    data, test_data = common.load(args)
    results = {}
    for title in (LOW, ANNEALED) if args.smoke else EPOCHS:
        results[title] = []
        for seed in common.seeds(args):
            model = train(title, data, args, seed)
            results[title].append(evaluate(model, data, test_data))
            print(f"{title}, seed {seed}: {results[title][-1]}", flush=True)
    return results


def table(config, results):
    yield "# Variational dropout in all four layers, from different starts\n"
    yield f"LeNet-5, {config['data']}, accuracy in percent; seeds:"
    yield f"{len(config['seeds'])}. Annealed: the KL divergence's weight rises from 0"
    yield f"to 1 in {ANNEALING_EPOCHS} epochs. The last column: one sample, the first"
    yield f"{TRAINING_ROWS:,} training rows.\n"
    yield "| start | epochs | log α | one sample | 20 samples | training rows |"
    yield "|---|---|---|---|---|---|"
    for title, rows in results.items():
        mean = {key: np.mean([row[key] for row in rows], axis=0) for key in rows[0]}
        alphas = ", ".join(f"{each:.1f}" for each in mean.pop("log_alpha"))
        cells = " | ".join(f"{each:.2f}" for each in mean.values())
        epochs = experiment.epochs(config, title)
        yield f"| {title} | {epochs} | {alphas} | {cells} |"


def main(arguments=None):
    experiment.main(NAME, __doc__, run, table, EPOCHS, seeds=1, arguments=arguments)


if __name__ == "__main__":
    main()
