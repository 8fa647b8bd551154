"""Give a trained network a variance head: first the head alone is trained, then all.

    python -m examples.finetune                        # digits: offline, seconds
    python -m examples.finetune --dataset cifar10 --epochs 20 [--data-dir DIR]
    python -m examples.finetune --smoke

A small convolutional network is trained as usual. `replace(…, layers="last")` turns
its last layer into a variance layer that starts at the trained weights, with a prior
around them. It is trained with the rest of the network frozen, then with all of it.
Printed are accuracy, negative log-likelihood and calibration on the test images, of
the network as it was trained and of 20 samples of the weights.

For a network with weights from elsewhere change the two lines of `pretrained`: the
first makes the backbone, the second, which trains it here, goes away:

    backbone = keras.applications.MobileNetV2(
        shape, include_top=False, weights="imagenet", pooling="avg"
    )

or, of KerasHub, with `model.input` and its pooled output as the backbone's:

    backbone = keras_hub.models.Backbone.from_preset("bert_tiny_en_uncased")
"""

import os

# Messages of TensorFlow would bury the result
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_variance as kv
from examples.data import load_data
from examples.quickstart import new_parser, number

SAMPLES = 20
BATCH_SIZE = 50
CLASSES = 10
SMOKE = 200  # images
LIKELIHOOD = kv.likelihoods.Categorical(from_logits=True)


def convolutional(shape):
    """A backbone: images to features."""
    layers = [keras.Input(shape)]
    for filters in (16, 32):
        layers += [
            keras.layers.Conv2D(filters, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
        ]
    layers += [keras.layers.Flatten(), keras.layers.Dense(64, "relu")]
    return keras.Sequential(layers, name="backbone")


def pretrained(data, epochs):
    """A trained network: the backbone and a dense head that gives logits."""
    backbone = convolutional(data[0].shape[1:])
    head = keras.layers.Dense(CLASSES, name="head")
    model = keras.Sequential([keras.Input(data[0].shape[1:]), backbone, head])
    train(model, data, epochs, 3e-3)
    return model


def variance_head(model, train_size):
    """The same network, its head random: a sample of its weights in every call."""
    prior = kv.priors.Normal(0.1, mean="initial")
    arguments = {"layers": "last", "prior": prior, "train_size": train_size}
    return kv.transforms.replace(model, "additive", **arguments)


def train(model, data, epochs, rate):
    """The head's KL divergence is among the losses of a variance network."""
    steps = epochs * -(-len(data[0]) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(*data, BATCH_SIZE, epochs, verbose=0)


def quality(p, y):
    """Accuracy and calibration error in percent, negative log-likelihood in nats."""
    p = np.asarray(p, "float64")
    return {
        "accuracy": 100 * float(np.mean(p.argmax(axis=-1) == y)),
        "NLL": -float(np.mean(np.log(p[np.arange(len(y)), y] + 1e-12))),
        "ECE": 100 * float(kv.metrics.ExpectedCalibrationError()(y, p)),
    }


def sampled(model, x):
    """Mean probabilities of the samples."""
    prediction = kv.mc_predict(model, x, SAMPLES, likelihood=LIKELIHOOD, verbose=0)
    return prediction.mean


def main(arguments=None):
    parser = build_parser()
    args = parser.parse_args(arguments)
    try:
        data, (x, y) = load_data(args.dataset, args.data_dir)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    epochs = args.epochs
    if args.smoke:
        epochs, data, x, y = 1, [each[:SMOKE] for each in data], x[:SMOKE], y[:SMOKE]
    keras.utils.set_random_seed(args.seed)

    model = pretrained(data, epochs)
    logits = model.predict(x, verbose=0)
    rows = {"as trained": quality(keras.ops.softmax(logits), y)}

    model = variance_head(model, len(data[0]))
    backbone = model.get_layer("backbone")
    backbone.trainable = False
    train(model, data, epochs, 1e-3)
    rows["variance head, backbone frozen"] = quality(sampled(model, x), y)

    backbone.trainable = True
    train(model, data, epochs, 1e-4)
    rows["variance head, all trained"] = quality(sampled(model, x), y)

    print(
        f"{len(x)} held-out images of {args.dataset}, {SAMPLES} samples of the weights"
    )
    print(f"{'':<32}{'accuracy, %':>12}{'NLL, nats':>12}{'ECE, %':>12}")
    for name, row in rows.items():
        accuracy, nll, ece = row.values()
        print(f"{name:<32}{accuracy:>12.2f}{nll:>12.4f}{ece:>12.2f}")
    return rows


def build_parser():
    parser = new_parser("finetune", __doc__)
    add = parser.add_argument
    epochs = number(int, 1)
    add("--epochs", type=epochs, default=20, metavar="N", help="of each training")
    add("--smoke", action="store_true", help="a few images, one epoch: in seconds")
    return parser


if __name__ == "__main__":
    main()
