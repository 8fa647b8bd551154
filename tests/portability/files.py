"""Models that one backend trains and saves, and others load: a script.

KERAS_BACKEND=torch python -m tests.portability.files write FOLDER
KERAS_BACKEND=jax python -m tests.portability.files read FOLDER [FOLDER …]

Next to each `NAME.keras` of a folder it writes what the model computes, in
`NAME.BACKEND-write.npz` or `NAME.BACKEND-read.npz`.
"""

import sys
from pathlib import Path

import keras
import numpy as np

import keras_variance as kv

ROWS, SAMPLES = 6, 1000
# Priors of as many posteriors
PRIORS = (*kv.priors.MEMBERS, None)


def families(k):
    """The arguments of layer k: posteriors and priors in turn."""
    posteriors = tuple(kv.posteriors.MEMBERS)
    prior = PRIORS[k % len(PRIORS)]
    arguments = {"posterior": posteriors[k % len(posteriors)], "prior": prior}
    return arguments if prior is None else {**arguments, "train_size": ROWS}


def dense():
    """Every posterior and prior, of inputs that all see, and with pruned weights."""
    inputs = keras.Input((5,))
    layers = [kv.VarianceDense(8, **families(k)) for k in range(5)]
    x = keras.layers.Add()([layer(inputs) for layer in layers])
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    outputs = kv.VarianceDense(4, "softmax", posterior="additive")(x)
    model = keras.Model(inputs, outputs)
    kv.prune(model, 0.25, layers=layers[1:3])
    return model


def convolutions(shape, *layers):
    head = [keras.layers.Flatten(), keras.layers.Dense(4, "softmax")]
    return keras.Sequential([keras.Input(shape), *layers, *head])


MODELS = {
    "dense": dense,
    "conv1d": lambda: convolutions(
        (6, 2),
        kv.VarianceConv1D(4, 3, padding="causal", dilation_rate=2, **families(1)),
    ),
    "conv2d": lambda: convolutions(
        (6, 6, 2),
        kv.VarianceConv2D(4, 3, groups=2, **families(2)),
        kv.VarianceDepthwiseConv2D(2, strides=2, depth_multiplier=2, **families(3)),
        kv.VarianceConv2DTranspose(3, 2, strides=2, **families(4)),
        kv.VarianceSeparableConv2D(4, 2, depth_multiplier=2, **families(2)),
    ),
    "conv3d": lambda: convolutions(
        (3, 4, 3, 2),
        kv.VarianceConv3D(3, 2, padding="same", estimator="flipout", **families(4)),
    ),
}


def computed(model, seed):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, *model.input_shape[1:])).astype("float32")
    options = {"return_samples": True, "chunk_size": SAMPLES, "seed": seed}
    sampled = kv.mc_predict(model, x, SAMPLES, verbose=0, **options)
    moments = kv.moment_predict(model, x, verbose=0)
    convert = keras.ops.convert_to_numpy
    return {
        **{f"weight {k}": convert(each) for k, each in enumerate(model.weights)},
        "mean weights": kv.transforms.propagate_mean(model).predict(x, verbose=0),
        "moments mean": moments.mean,
        "moments variance": moments.variance,
        "samples": sampled.samples,
    }


def write(folder):
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    for name, make in MODELS.items():
        model = make()
        model.compile("adam", "sparse_categorical_crossentropy")
        x = rng.normal(size=(ROWS, *model.input_shape[1:])).astype("float32")
        model.train_on_batch(x, np.arange(ROWS) % 4)
        model.save(folder / f"{name}.keras")
        save(folder / name, "write", computed(model, seed=1))


def read(folder):
    for name in MODELS:
        # Without the optimizer: in PyTorch's files Keras names a class of PyTorch alone
        model = keras.models.load_model(folder / f"{name}.keras", compile=False)
        save(folder / name, "read", computed(model, seed=2))


def save(path, verb, arrays):
    np.savez(f"{path}.{keras.backend.backend()}-{verb}.npz", **arrays)


if __name__ == "__main__":
    verb, *folders = sys.argv[1:]
    for folder in folders:
        {"write": write, "read": read}[verb](Path(folder))
