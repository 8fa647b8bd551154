"""What helps a variance layer to train, and what does not, on digits.

    python -m examples.paper.training_choices [--smoke]

A small convolutional network with a dense variance layer; one thing is changed at a
time. Then a layer with one α in its place: how far log α gets, by Adam's rate and
memory. For docs/training.md.
"""

from functools import partial

import keras
import numpy as np
from keras import layers

import keras_variance as kv
from examples.data import load_data
from examples.paper import common, experiment

NAME = "training_choices"
EPOCHS, BATCH_SIZE, RATE = 20, 50, 1e-3
SAMPLES = 20
ADVISED = "BatchNorm and ReLU behind it"
variance = partial(kv.VarianceDense, 256, use_bias=False)
normalization = partial(layers.BatchNormalization, momentum=0.9)
tanh = partial(layers.Activation, "tanh")
classes = partial(layers.Dense, 10)


def scaled(factor):
    """θ uniform within a factor times ±1/√fan_in."""
    return keras.initializers.VarianceScaling(factor**2 / 3, distribution="uniform")


# Behind the convolutions: functions that make the layers
HEADS = {
    ADVISED: [variance, normalization, layers.ReLU, classes],
    "ReLU, no BatchNorm": [variance, layers.ReLU, classes],
    "BatchNorm before it, ReLU behind": [
        normalization,
        variance,
        layers.ReLU,
        classes,
    ],
    "two variance layers, BatchNorm and ReLU behind each": [
        *[variance, normalization, layers.ReLU] * 2,
        classes,
    ],
    "BatchNorm and tanh": [variance, normalization, tanh, classes],
    "BatchNorm and tanh, no biases": [
        variance,
        partial(normalization, center=False, scale=False),
        tanh,
        partial(classes, use_bias=False),
    ],
    "nothing: it is the last layer": [
        partial(layers.Dense, 256),
        normalization,
        layers.ReLU,
        partial(kv.VarianceDense, 10),
    ],
}
for _factor in (0.01, 100):
    _variance = partial(variance, kernel_initializer=scaled(_factor))
    HEADS[f"as advised, initial σ × {_factor}"] = [_variance, *HEADS[ADVISED][1:]]
    HEADS[f"ReLU, no BatchNorm, initial σ × {_factor}"] = [
        _variance,
        layers.ReLU,
        classes,
    ]
RATES = (1e-4, 1e-2)
# Of the layer with one α
ALPHA_RATES, MEMORIES = (1e-3, 6e-3), (0.98, 0.999)


def build(head):
    def convolution(filters):
        return layers.Conv2D(filters, 3, padding="same", use_bias=False)

    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            convolution(20),
            normalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            convolution(50),
            normalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            *(make() for make in head),
        ]
    )


def train(name, head, data, args, seed, **options):
    return common.train(
        f"digits-{name.replace(' ', '-')}",
        partial(build, head),
        data,
        args,
        seed,
        EPOCHS,
        batch_size=BATCH_SIZE,
        **options,
    )


def accuracies(model, x, y):
    """In percent, of one sample and of the average."""
    return [
        common.quality(common.sampled(model, x, samples), y)["accuracy"]
        for samples in (1, SAMPLES)
    ]


def run(args):
    data, test_data = load_data("digits")
    choices = [(name, head, RATE) for name, head in HEADS.items()]
    choices += [(f"as advised, rate {x:g}", HEADS[ADVISED], x) for x in RATES]
    memories = [(rate, memory) for rate in ALPHA_RATES for memory in MEMORIES]
    if args.smoke:
        choices, memories = choices[::8], memories[:1]
    results = {"choices": {}, "log_alpha": []}
    for name, head, rate in choices:
        results["choices"][name] = [
            accuracies(train(name, head, data, args, seed, rate=rate), *test_data)
            for seed in common.seeds(args)
        ]
        print(f"{name}: {results['choices'][name]}", flush=True)
    dropout = partial(
        variance,
        posterior=kv.posteriors.LayerAlpha(0.0),
        prior="log_uniform",
        train_size=len(data[0]),
    )
    for rate, memory in memories:
        reached = []
        for seed in common.seeds(args):
            options = {"rate": rate, "beta_2": memory, "power": 0.5}
            name = f"alpha-{rate:g}-{memory:g}"
            head = [dropout, *HEADS[ADVISED][1:]]
            model = train(name, head, data, args, seed, **options)
            reached += common.log_alphas(model)
        row = {"rate": rate, "beta_2": memory, "log_alpha": reached}
        results["log_alpha"].append(row)
        print(row, flush=True)
    return results


def table(config, results):
    yield "# Choices in training\n"
    yield f"Digits (8×8), a small convolutional network, {config['epochs']} epochs at"
    yield f"batch size {BATCH_SIZE}, Adam falling linearly from {RATE:g}; accuracy in"
    yield f"percent, mean of {len(config['seeds'])} seeds (least to greatest).\n"
    yield f"| network | one sample | {SAMPLES} samples |"
    yield "|---|---|---|"
    for name, rows in results["choices"].items():
        cells = (
            f"{np.mean(x):.1f} ({min(x):.1f} to {max(x):.1f})"
            for x in zip(*rows, strict=True)
        )
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield "\nOne α for the layer, log-uniform prior, log α from 0, the rate falling as"
    yield "√(1 − t):\n"
    yield "| rate | Adam's β₂ | log α after training |"
    yield "|---|---|---|"
    for row in results["log_alpha"]:
        reached = np.mean(row["log_alpha"])
        yield f"| {row['rate']:g} | {row['beta_2']:g} | {reached:.2f} |"


def main(arguments=None):
    experiment.main(
        NAME, __doc__, run, table, EPOCHS, data="digits", arguments=arguments
    )


if __name__ == "__main__":
    main()
