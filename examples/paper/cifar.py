"""What the CIFAR experiments share: data, networks, recipes."""

from functools import partial

import keras

from examples import data as datasets
from examples.networks import variance_vgg, vgg
from examples.paper.follow import Follow
from examples.paper.training import Recipe, described, train

DROPOUT, VARIANCE, DETERMINISTIC = "dropout", "variance", "deterministic"
NETWORKS = (DROPOUT, VARIANCE, DETERMINISTIC)
WIDTH, EPOCHS, BATCH_SIZE = 0.25, 40, 128
PRIORS = {"log_uniform": "log-uniform", "student_t": "Student's t", "ard": "ARD"}
CLASSES = {"cifar10": 10, "cifar100": 100}
# Of a smoke run: a few images, a narrow network
SMOKE_IMAGES, SMOKE_WIDTH, SMOKE_EPOCHS = 64, 0.04, 2
RATE = 2e-3
LOG_ALPHA = 0.0
DROPOUT_FACTOR = 0.5


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


def load(args):
    """Normalized `(x, y)` for training and `(x, y)` for testing.

    A smoke run has random images and labels: there is no small CIFAR.
    """
    if args.smoke:
        return datasets.normalize(*random_images(CLASSES[args.dataset]))
    return datasets.normalize(*datasets.load_data(args.dataset, args.data_dir))


def random_images(classes):
    """As `load_data` of a CIFAR data set, a few images of noise."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.random((2 * SMOKE_IMAGES, 32, 32, 3), "float32")
    y = np.arange(len(x)) % classes
    return (x[::2], y[::2]), (x[1::2], y[1::2])


def recipe(network, data, args, seed, prior="log_uniform", posterior="layer_alpha"):
    """The `Recipe` of a network.

    Args:
        network: One of `NETWORKS`.
        data: `(x, y)` of training.
        args: Of the command line: `dataset`, `width`, `epochs`, `smoke`.
        seed: Integer.
        prior: Of the variance network.
        posterior: Of the variance network.
    """
    width = SMOKE_WIDTH if args.smoke else args.width
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
    else:
        factor = DROPOUT_FACTOR if network == DROPOUT else 0.0
        make = partial(vgg, shape, classes, width, dropout=factor)
    return Recipe(
        name=f"{name}-width{width:g}" + "-smoke" * args.smoke,
        network=make,
        data=described(data),
        epochs=args.epochs or (SMOKE_EPOCHS if args.smoke else EPOCHS),
        seed=seed,
        batch_size=BATCH_SIZE,
        optimizer=keras.optimizers.Adam,
        rate=RATE,
        augment=datasets.flip_and_shift,
    )


def trained(network, data, test_data, args, seed, **options):
    """The recipe of a network, and the model that it makes.

    Args:
        **options: Of `recipe`.
    """
    made = recipe(network, data, args, seed, **options)
    follow = [Follow(*test_data)] if network == VARIANCE else []
    validation = None if network == VARIANCE else test_data
    return made, train(made, data, args.work, validation, follow)
