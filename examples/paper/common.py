"""What the experiments share: data, LeNet-5-Caffe and its trained variants."""

import sys
import warnings
from functools import partial

import keras
import numpy as np

import keras_variance as kv
from examples.quickstart import load_data

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
    shrink(args)
    return tuple((x[:200], y[:200]) for x, y in load_data("digits"))


def shrink(args):
    """Two epochs of one seed, for a smoke run."""
    args.epochs, args.seeds = 2, 1


def seeds(args):
    return range(args.seed, args.seed + args.seeds)


def lenet(input_shape, *layers, activation=keras.layers.ReLU, biases=True, dropout=0.0):
    """LeNet-5-Caffe, BatchNorm after each linear layer but the last.

    Args:
        input_shape: (height, width, channels); small images get 3×3 convolutions.
        *layers: Two convolutions and two dense layers: classes, or functions with
            the arguments of these.
        activation: Function that makes the layer behind each BatchNorm.
        biases: Whether BatchNorm has its scale and shift, and the last layer a bias.
        dropout: Rate before the first dense layer; 0 for no such layer.
    """
    small = input_shape[0] < 28
    size, padding = (3, "same") if small else (5, "valid")
    convolution = {"kernel_size": size, "padding": padding, "use_bias": False}
    first, second, dense, last = layers

    def normalization():
        return keras.layers.BatchNormalization(center=biases, scale=biases)

    return keras.Sequential(
        [
            keras.Input(input_shape),
            first(20, **convolution),
            normalization(),
            activation(),
            keras.layers.MaxPooling2D(),
            second(50, **convolution),
            normalization(),
            activation(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            *([keras.layers.Dropout(dropout)] if dropout else []),
            dense(500, use_bias=False),
            normalization(),
            activation(),
            last(10, use_bias=biases),
        ]
    )


def train(
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
    """A trained model: Adam, its rate falling as rate · (1 − t)^power from 0 to t = 1.

    Kept as `NAME-seedN-epochsM.keras` in the work folder, where it is looked for
    first; after an interruption training goes on with the epoch it was in.
    """
    epochs = args.epochs or epochs
    stem = f"{name}-seed{seed}-epochs{epochs}" + "-smoke" * args.smoke
    path = args.work / f"{stem}.keras"
    if path.exists():
        return keras.models.load_model(path)
    args.work.mkdir(parents=True, exist_ok=True)
    print(f"Training {stem}", flush=True)
    keras.utils.set_random_seed(seed)
    model = build()
    steps = epochs * -(-len(data[0]) // batch_size)
    schedule = keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0, power)
    model.compile(
        keras.optimizers.Adam(schedule, beta_2=beta_2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    # Last, when the others have made the weights that it restores
    callbacks = [*callbacks, keras.callbacks.BackupAndRestore(args.work / stem)]
    verbose = 1 if sys.stdout.isatty() else 2
    model.fit(*data, batch_size, epochs, verbose, callbacks=callbacks)
    model.save(path)
    return model


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


def variational_dropout(data, args, seed, posterior, prior, callbacks=()):
    """LeNet-5 with its first dense layer trained for the ELBO.

    Args:
        posterior: A key of `POSTERIORS`.
        prior: The name of one.
    """
    config = {"prior": prior, "train_size": len(data[0])}
    dense = partial(kv.VarianceDense, posterior=POSTERIORS[posterior], **config)
    layers = (keras.layers.Conv2D, keras.layers.Conv2D, dense, keras.layers.Dense)
    build = partial(lenet, data[0].shape[1:], *layers)
    name = f"lenet-dense-{posterior}-{prior}"
    return train(
        name, build, data, args, seed, ALPHA_EPOCHS, callbacks, **ALPHA_TRAINING
    )


def all_four_layers(
    data, args, seed, name, posterior=None, epochs=ALL_EPOCHS, callbacks=()
):
    """LeNet-5 with all layers trained for the ELBO, under the log-uniform prior.

    Args:
        name: Of the model; a key of `POSTERIORS` where `posterior` is not given.
    """
    config = {"prior": "log_uniform", "train_size": len(data[0])}
    config["posterior"] = posterior or POSTERIORS[name]
    convolution = partial(kv.VarianceConv2D, **config)
    dense = partial(kv.VarianceDense, **config)
    layers = (convolution, convolution, dense, dense)
    build = partial(lenet, data[0].shape[1:], *layers)
    name = f"lenet-all-{name}"
    return train(name, build, data, args, seed, epochs, callbacks, **ALPHA_TRAINING)


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


def sampled(model, x, samples):
    """Class probabilities, averaged over samples of the weights."""
    options = {"from_logits": True, "seed": 0, "verbose": 0}
    return kv.mc_predict(model, x, samples, 500, **options).mean


def predicted(model, x):
    """Class probabilities of a model that draws nothing."""
    return np.asarray(keras.ops.softmax(model.predict(x, 500, verbose=0)))


def by_means(model, x):
    """Class probabilities with every weight at its mean."""
    with warnings.catch_warnings():  # a mean that is zero is to be shown here
        warnings.simplefilter("ignore", UserWarning)
        mean = kv.transforms.propagate_mean(model)
    return predicted(mean, x)


def cell(value, paper=None):
    """Of a table, in percent: a figure, and the paper's in brackets."""
    return ("" if value is None else f"{value:.2f}") + (f" ({paper})" if paper else "")


def mean_accuracy(rows, column):
    """Over seeds, in percent, of `quality`s by column; None for a column they lack."""
    if column not in rows[0]:
        return None
    return float(np.mean([row[column]["accuracy"] for row in rows]))


def quality(probabilities, labels):
    """Accuracy in percent and negative log-likelihood in nats a row."""
    likelihood = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": 100 * float(np.mean(probabilities.argmax(axis=-1) == labels)),
        "nll": -float(np.mean(np.log(np.maximum(likelihood, 1e-30)))),
    }
