"""What the experiments share: data, LeNet-5-Caffe and its trained variants."""

import time
import warnings
from functools import partial

import keras
import numpy as np

import keras_variance as kv
from examples.data import load_data
from examples.networks import lenet
from examples.paper import training
from examples.paper.training import Recipe, described

BATCH_SIZE = 200
# Of the network that most experiments look at, and its layers
EPOCHS = 40
ONE_VARIANCE_LAYER = (
    keras.layers.Conv2D,
    keras.layers.Conv2D,
    kv.VarianceDense,
    keras.layers.Dense,
)
STOCK = (keras.layers.Conv2D,) * 2 + (keras.layers.Dense,) * 2
# Of experiments in which log α has a long way to go: its gradient falls as it grows,
# so Adam's memory of greater ones must be short.
ALPHA_EPOCHS, ALL_EPOCHS = 22, 20  # one dense layer, all four
ALPHA_TRAINING = {"rate": 6e-3, "power": 0.5, "beta_2": 0.98}
LOG_ALPHA = 0.0
POSTERIORS = {
    "zero_mean": kv.posteriors.ZeroMean(),
    "layer_alpha": kv.posteriors.LayerAlpha(LOG_ALPHA),
    "neuron_alpha": kv.posteriors.NeuronAlpha(LOG_ALPHA),
    "weight_alpha": kv.posteriors.WeightAlpha(LOG_ALPHA),
    "additive": kv.posteriors.Additive(LOG_ALPHA - 6.5),  # θ² is about e^-6.5
}


def load(args):
    """(x_train, y_train), (x_test, y_test) of MNIST; digits in a smoke run."""
    if not args.smoke:
        return load_data("mnist", args.data_dir)
    return tuple((x[:200], y[:200]) for x, y in load_data("digits"))


def seeds(args):
    return range(args.seed, args.seed + args.seeds)


def recipe(
    name,
    build,
    data,
    args,
    seed,
    epochs,
    callbacks=(),
    rate=1e-3,
    power=1.0,
    beta_2=0.999,
    batch_size=BATCH_SIZE,
):
    """The `Recipe` of a network that Adam trains.

    Args:
        build: Makes the network: a function or a partial function.
        data: `(x, y)` of training.
        epochs: Integer, unless `args.epochs` says otherwise.
        callbacks: Partial functions, each of which makes a callback.
        rate: The learning rate falls as rate · (1 − t)^power from t = 0 to t = 1.
    """
    return Recipe(
        name + "-smoke" * args.smoke,
        build,
        described(data),
        args.epochs or epochs,
        seed,
        batch_size,
        partial(keras.optimizers.Adam, beta_2=beta_2),
        rate,
        power,
        callbacks=tuple(callbacks),
    )


def train(name, build, data, args, seed, epochs, callbacks=(), **options):
    """The trained model of a `recipe`, from the work folder if it is there."""
    made = recipe(name, build, data, args, seed, epochs, callbacks, **options)
    return training.train(made, data, args.work)


def one_variance_layer(
    data, args, seed, name="lenet-one-variance-dense-layer", epochs=EPOCHS, **config
):
    """LeNet-5 with its first dense layer a variance layer, trained.

    Args:
        **config: Arguments of the layer, such as `noise` and `estimator`.
    """
    first, second, dense, last = ONE_VARIANCE_LAYER
    layers = first, second, partial(dense, **config), last
    build = partial(lenet, data[0].shape[1:], *layers)
    return train(name, build, data, args, seed, epochs)


def variational_dropout(data, args, seed, posterior, prior):
    """The recipe of LeNet-5 with its first dense layer trained for the ELBO.

    Args:
        posterior: A key of `POSTERIORS`.
        prior: The name of one.
    """
    config = {"prior": prior, "train_size": len(data[0])}
    dense = partial(kv.VarianceDense, posterior=POSTERIORS[posterior], **config)
    layers = (keras.layers.Conv2D, keras.layers.Conv2D, dense, keras.layers.Dense)
    build = partial(lenet, data[0].shape[1:], *layers)
    name = f"lenet-dense-{posterior}-{prior}"
    return recipe(name, build, data, args, seed, ALPHA_EPOCHS, **ALPHA_TRAINING)


def all_four_layers(
    data, args, seed, name, posterior=None, epochs=ALL_EPOCHS, callbacks=()
):
    """The recipe of LeNet-5 with all layers trained for the ELBO, log-uniform prior.

    Args:
        name: Of the model; a key of `POSTERIORS` where `posterior` is not given.
        callbacks: See `recipe`.
    """
    config = {"prior": "log_uniform", "train_size": len(data[0])}
    config["posterior"] = posterior or POSTERIORS[name]
    convolution = partial(kv.VarianceConv2D, **config)
    dense = partial(kv.VarianceDense, **config)
    layers = (convolution, convolution, dense, dense)
    build = partial(lenet, data[0].shape[1:], *layers)
    name = f"lenet-all-{name}"
    return recipe(name, build, data, args, seed, epochs, callbacks, **ALPHA_TRAINING)


def redrawn(model, **config):
    """A copy of the model whose variance layers have another `noise`, `estimator`."""

    def clone(layer):
        changed = config if isinstance(layer, kv.VarianceLayer) else {}
        return type(layer).from_config(layer.get_config() | changed)

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def log_alphas(model):
    """The median of each variance layer's log α."""
    return [
        float(np.median(each.log_alpha)) for each in kv.layers.variance_layers(model)
    ]


def sampled(model, x, samples, dropout=False):
    """Class probabilities, averaged over samples of the weights, or of dropout."""
    options = {"likelihood": "categorical", "seed": 0, "verbose": 0}
    return kv.mc_predict(model, x, samples, 500, dropout=dropout, **options).mean


def by_moments(model, x, dropout=False):
    """Class probabilities by one pass of moments."""
    options = {"likelihood": "categorical", "dropout": dropout, "verbose": 0}
    return kv.moment_predict(model, x, 500, **options).mean


def predicted(model, x):
    """Class probabilities of a model that draws nothing."""
    return np.asarray(keras.ops.softmax(model.predict(x, 500, verbose=0)))


def by_means(model, x):
    """Class probabilities with every weight at its mean."""
    with warnings.catch_warnings():  # a mean that is zero is to be shown here
        warnings.simplefilter("ignore", UserWarning)
        mean = kv.transforms.propagate_mean(model)
    return predicted(mean, x)


def seconds(functions, rounds):
    """Of a call of each function, by name: medians of calls in turn."""
    spent = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            spent[name].append(time.perf_counter() - began)
    return {name: float(np.median(each[1:])) for name, each in spent.items()}


def cell(value, paper=None):
    """Of a table, in percent: a figure, and the paper's in brackets."""
    return ("" if value is None else f"{value:.2f}") + (f" ({paper})" if paper else "")


def mean_accuracy(rows, column):
    """Over seeds, in percent, of `quality`s by column; None for a column they lack."""
    if column not in rows[0]:
        return None
    return float(np.mean([row[column]["accuracy"] for row in rows]))


# Of labels and class scores: the share of largest ones, NaN if a score is
accuracy = kv.likelihoods.Categorical().accuracy


def quality(probabilities, labels):
    """Accuracy in percent, negative log-likelihood in nats per example, and ECE."""
    likelihood = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": 100 * accuracy(labels, probabilities),
        "nll": -float(np.mean(np.log(np.maximum(likelihood, 1e-30)))),
        "ece": float(kv.metrics.ExpectedCalibrationError()(labels, probabilities)),
    }
