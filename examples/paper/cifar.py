"""What the CIFAR experiments share: data, networks, recipes."""

from functools import partial

import keras
import numpy as np

from examples import data as datasets
from examples.networks import variance_vgg, vgg
from examples.paper import experiment
from examples.paper.adversarial_training import adversarial_vgg
from examples.paper.follow import Follow
from examples.paper.training import Recipe, described, train

DROPOUT, VARIANCE, DETERMINISTIC = "dropout", "variance", "deterministic"
ADVERSARIAL = "adversarial"  # deterministic, trained on adversarial examples
NETWORKS = (DROPOUT, VARIANCE, DETERMINISTIC, ADVERSARIAL)
EPSILON = 8 / 255  # their largest change of a pixel from 0 to 1
WIDTH, EPOCHS, BATCH_SIZE = 0.25, 40, 128
PRIORS = {"log_uniform": "log-uniform", "student_t": "Student's t", "ard": "ARD"}
CLASSES = {"cifar10": 10, "cifar100": 100}
# Of a smoke run: a few images, a narrow network
SMOKE_IMAGES, SMOKE_WIDTH, SMOKE_EPOCHS = 64, 0.04, 2
# Adam's learning rate, which falls to 0, and its memory of squared gradients. That of
# log α falls as α grows, so a variance network needs a short memory, and log α moves
# by at most the rate per step, so a large rate.
TRAINING = {
    DROPOUT: {"rate": 2e-3, "beta_2": 0.999},
    VARIANCE: {"rate": 3e-3, "beta_2": 0.98},
    DETERMINISTIC: {"rate": 2e-3, "beta_2": 0.999},
    ADVERSARIAL: {"rate": 2e-3, "beta_2": 0.999},
}
LOG_ALPHA = 0.0
DIFFERENCE = "Width {width:g} and {epochs} epochs here, 1 and at least 200 there."


def add_arguments(parser):
    """The arguments of every CIFAR experiment, beside those of all experiments."""
    parser.add_argument(
        "--dataset", choices=CLASSES, default="cifar10", help="default: %(default)s"
    )
    parser.add_argument(
        "--width",
        type=float,
        default=WIDTH,
        help="factor of the numbers of filters; default: %(default)s",
    )
    parser.add_argument(
        "--batch-size", type=int, default=BATCH_SIZE, help="default: %(default)s"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16"),
        default="float32",
        help="of training; default: %(default)s",
    )


def load(args):
    """Normalized `(x, y)` for training and `(x, y)` for testing.

    A smoke run has random images and labels: there is no small CIFAR.
    """
    if args.smoke:
        return datasets.normalize(*random_images(CLASSES[args.dataset]))
    return datasets.normalize(*datasets.load_data(args.dataset, args.data_dir))


def random_images(classes):
    """As `load_data` of a CIFAR data set, a few images of noise."""
    rng = np.random.default_rng(0)
    x = rng.random((2 * SMOKE_IMAGES, 32, 32, 3), "float32")
    y = np.arange(len(x)) // 2 % classes
    return (x[::2], y[::2]), (x[1::2], y[1::2])


def pixel_range(x):
    """What pixels of 0 and 1 are in normalized images, by channel: two lists."""
    return x.min((0, 1, 2)).tolist(), x.max((0, 1, 2)).tolist()


def recipe(network, data, args, seed, prior="log_uniform", posterior="layer_alpha"):
    """The `Recipe` of a network.

    Args:
        network: One of `NETWORKS`.
        data: `(x, y)` of training.
        args: Of the command line: see `add_arguments`.
        seed: Integer.
        prior: Of the variance network.
        posterior: Of the variance network.
    """
    width = args.width
    shape, classes = data[0].shape[1:], CLASSES[args.dataset]
    name = f"{args.dataset}-{network}"
    if network == VARIANCE:
        name += f"-{posterior}-{prior}"
        make = partial(
            variance_vgg,
            shape,
            classes,
            width,
            posterior=posterior,
            log_alpha=LOG_ALPHA,
            prior=prior,
            train_size=len(data[0]),
        )
    elif network == ADVERSARIAL:
        low, high = pixel_range(data[0])
        epsilon = [EPSILON * (b - a) for a, b in zip(low, high, strict=True)]
        make = partial(adversarial_vgg, shape, classes, width, epsilon, low, high)
    else:
        # Narrow networks with the rates of the reference's underfit
        factor = width if network == DROPOUT else 0.0
        make = partial(vgg, shape, classes, width, dropout=factor)
    return Recipe(
        name=f"{name}-width{width:g}" + "-smoke" * args.smoke,
        network=make,
        data=described(data),
        epochs=args.epochs or (SMOKE_EPOCHS if args.smoke else EPOCHS),
        seed=seed,
        batch_size=args.batch_size,
        precision=args.precision,
        optimizer=partial(keras.optimizers.Adam, beta_2=TRAINING[network]["beta_2"]),
        rate=TRAINING[network]["rate"],
        augment=datasets.flip_and_shift,
    )


def trained(made, data, test_data, args):
    """The model of a `recipe`, evaluated on test data after each epoch."""
    stochastic = made.network.func is variance_vgg
    follow = [Follow(*test_data)] if stochastic else []
    validation = None if stochastic else test_data
    return train(made, data, args.work, validation, follow)


def result_name(name, dataset, width):
    """Of the files with an experiment's results: `name` for CIFAR-10 and width 1."""
    name = name.replace("cifar", dataset) if dataset != "cifar10" else name
    return name if width == 1 else f"{name}_width{width:g}"


def on(config):
    """The data set and, if it isn't the paper's, the width: of a title."""
    width = config["width"]
    return config["data"] + ("" if width == 1 else f" at width {width:g}")


def setting(config):
    """Of a page: the network, and how it was trained, from a result's config."""
    seeds = ", ".join(map(str, config["seeds"]))
    yield f"The VGG-like network at width {config['width']:g} (the paper's is 1),"
    yield f"{config['data']}, {config['epochs']} epochs, seeds: {seeds}. Training,"
    for device, precision in sorted(
        {(each["device"], each["precision"]) for each in config["recipes"]}
    ):
        seconds = [
            each["seconds"]
            for each in config["recipes"]
            if (each["device"], each["precision"]) == (device, precision)
        ]
        yield f"in {precision} on {device}, took {min(seconds):,.0f} to"
        yield f"{max(seconds):,.0f} seconds a network, several at a time.\n"
    for each in config["recipes"]:
        if "note" in each:
            yield f"The network of seed {each['seed']} here: {each['note']}.\n"


def parser(description, seeds):
    """The arguments of an experiment on CIFAR."""
    made = experiment.parser(description, seeds)
    add_arguments(made)
    return made


def parse(parser, arguments=None):
    """As `experiment.parse`, with the width of a smoke run."""
    args = experiment.parse(parser, arguments)
    if args.smoke:
        args.width = SMOKE_WIDTH
    return args


def main(name, parser, run, table, arguments=None):
    """As `experiment.main`, for an experiment with this `parser`."""
    args = parse(parser, arguments)
    titles = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
    experiment.execute(
        result_name(name, args.dataset, args.width),
        args,
        run,
        table,
        EPOCHS,
        command=experiment.command(name, parser, args),
        data="noise (smoke run)" if args.smoke else titles[args.dataset],
        dataset=args.dataset,
        width=args.width,
        batch_size=args.batch_size,
        precision=args.precision,
    )
