"""What the predictions of table 2 cost, beside their quality.

    python -m examples.paper.costs [--width 0.25] [--smoke]

The networks of `mnist_classification` and `cifar_classification`: the time of a train
step and of each prediction over that of the network without dropout. Quality is that
of the committed results. Times do not depend on the weights: nothing is trained here.
"""

import json
from functools import partial

import numpy as np

import keras_variance as kv
from examples.paper import (
    cifar,
    cifar_classification,
    common,
    experiment,
    mnist_classification,
)

NAME = "costs"
LENET, VGG = "LeNet-5", "VGG-like network"
SHAPES = {LENET: (28, 28, 1), VGG: (32, 32, 3)}
IMAGES = {LENET: 1000, VGG: 100}  # that are predicted
ROUNDS = 5
NONE = "no dropout"
BINARY, VARIATIONAL = mnist_classification.BINARY, mnist_classification.VARIATIONAL
SAMPLES = cifar_classification.SAMPLES


def images(network, number):
    """`(x, y)` of noise."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((number, *SHAPES[network]), "float32")
    return x, np.arange(number) % 10


def recipes(network, data, args):
    """The `Recipe` of each network, by title."""
    if network == VGG:
        kinds = {NONE: cifar.DETERMINISTIC, **cifar_classification.METHODS}
        return {
            title: cifar.recipe(kind, data, args, seed=0)
            for title, kind in kinds.items()
        }
    stock = partial(common.lenet, SHAPES[LENET], *common.STOCK)
    return {
        NONE: common.recipe("lenet", stock, data, args, seed=0, epochs=1),
        BINARY: mnist_classification.recipe(BINARY, data, args, seed=0),
        VARIATIONAL: mnist_classification.recipe(VARIATIONAL, data, args, seed=0),
    }


def predictions(title, model, x):
    """Functions that predict `x`, by the columns of table 2."""
    if title == NONE:
        return {"mean": partial(common.predicted, model, x)}
    sampled = partial(common.sampled, model, x, dropout=title == BINARY)
    functions = {
        "mean": partial(common.predicted, model, x),
        "1 sample": partial(sampled, samples=1),
        f"{SAMPLES} samples": partial(sampled, samples=SAMPLES),
    }
    if title == VARIATIONAL:
        means = kv.transforms.propagate_mean(model)
        functions["mean"] = partial(common.predicted, means, x)
        functions["moments"] = partial(common.by_moments, model, x)
    return functions


def measure(network, args):
    """Seconds of a train step, and of each prediction, by network."""
    batch_size = args.batch_size if network == VGG else common.BATCH_SIZE
    data = images(network, 8 if args.smoke else batch_size)
    x, _ = images(network, 8 if args.smoke else IMAGES[network])
    models = {
        title: made.compiled(steps=1000)
        for title, made in recipes(network, data, args).items()
    }
    steps = {
        title: partial(model.train_on_batch, *data) for title, model in models.items()
    }
    predicted = {
        (title, column): function
        for title, model in models.items()
        for column, function in predictions(title, model, x).items()
    }
    rounds = 1 if args.smoke else ROUNDS
    spent = common.seconds(predicted, rounds)
    return {
        "train step": common.seconds(steps, rounds),
        "prediction": {
            title: {column: spent[title, column] for t, column in spent if t == title}
            for title in models
        },
    }


def run(args):
    return {network: measure(network, args) for network in SHAPES}


def committed(name):
    """The results of `name`, or none."""
    path = experiment.RESULTS / f"{name}.json"
    return json.loads(path.read_text())["results"] if path.exists() else {}


def lines(measured, rows_by_title):
    """Of a network's table."""
    metrics = {"accuracy": 2, "nll": 3, "ece": 3}  # digits
    steps, spent = measured["train step"], measured["prediction"]
    yield "| network | prediction | accuracy, % | NLL | ECE | train step | prediction |"
    yield "|---" * 7 + "|"
    for title, columns in spent.items():
        rows = rows_by_title.get(title)
        for column, seconds in columns.items():
            of = [row[column] for row in rows] if rows else [{}]
            quality = (
                f"{np.mean([each[metric] for each in of]):.{digits}f}"
                if metric in of[0]
                else ""
                for metric, digits in metrics.items()
            )
            yield (
                f"| {title} | {column} | {' | '.join(quality)} "
                f"| {steps[title] / steps[NONE]:.2f} × "
                f"| {seconds / spent[NONE]['mean']:.2f} × |"
            )


def table(config, results):
    width = config["width"]
    vgg = cifar.result_name(cifar_classification.NAME, "cifar10", width)
    quality = {LENET: mnist_classification.NAME, VGG: vgg}
    yield "# Quality and cost\n"
    yield "The networks and predictions of table 2: quality on"
    yield f"[MNIST]({quality[LENET]}.md) and [CIFAR-10]({vgg}.md),"
    yield "NLL in nats per image, and times over those of the same network without"
    yield f"dropout. A train step has {config['batch_size'][LENET]} images (LeNet-5) or"
    yield f"{config['batch_size'][VGG]} (VGG), a prediction {IMAGES[LENET]:,} or"
    yield f"{IMAGES[VGG]}. Times are medians of {ROUNDS}, all in turn, in float32 on"
    yield f"{config['device']}.\n"
    for network, data in ((LENET, "MNIST"), (VGG, f"at width {width:g}, CIFAR-10")):
        yield f"## {network}, {data}\n"
        yield from lines(results[network], committed(quality[network]))
        yield ""
    yield "Layers before the first random one are computed once for all samples. In the"
    yield "VGG-like network nearly all come after the first dropout, and few after the"
    yield "first variance layer."


def main(arguments=None):
    parser = cifar.parser(__doc__, seeds=1)
    parser.set_defaults(width=1.0)
    args = cifar.parse(parser, arguments)
    experiment.execute(
        NAME,
        args,
        run,
        table,
        command=experiment.command(NAME, parser, args),
        width=args.width,
        batch_size={LENET: common.BATCH_SIZE, VGG: args.batch_size},
    )


if __name__ == "__main__":
    main()
