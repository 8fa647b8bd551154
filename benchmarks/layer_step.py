"""Train-step time of each variance layer over that of its stock layer.

    python -m benchmarks.layer_step [--repeats 100]

First a step of LeNet-5-Caffe on 28×28, batch 200, with its first dense layer
stochastic, by `train_on_batch`, on any backend. Then, on TensorFlow, layers alone:
dense 800 to 500, and 5×5 convolution 20 to 50 on 12×12, batch 200; a step is the
forward pass, the gradients of a mean-square loss with respect to inputs and weights,
and an Adam update, compiled (with XLA where a GPU is visible). Then the cost of the
noise. The steps of a row's layers are timed in turn; printed are medians in
milliseconds and the ratio to the stock layer's.
"""

import argparse
from functools import partial

import keras
import numpy as np

import keras_variance as kv
from benchmarks.timing import BACKEND, environment, report

BATCH = 200


def layer_step(layer, x):
    """A function that trains `layer` on `x` once."""
    import tensorflow as tf

    optimizer = keras.optimizers.Adam()
    layer.build(x.shape)
    optimizer.build(layer.trainable_variables)

    @tf.function(jit_compile=bool(tf.config.list_physical_devices("GPU")))
    def step(x):
        weights = [w.value for w in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(tf.square(layer(x)))
        gradient, *gradients = tape.gradient(loss, [x, *weights])
        optimizer.apply(gradients)
        return loss, gradient

    return lambda: step(x)[0].numpy()


def lenet_step(dense, x, y):
    """A function that trains LeNet-5 with `dense` in it on a batch once."""
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            keras.layers.Conv2D(20, 5),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(50, 5),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            dense,
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(10),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return lambda: model.train_on_batch(x, y)


def variants(layer):
    """The stock layer is first; then zero mean, then mean and variance."""
    for posterior in ("zero_mean", "layer_alpha"):
        for estimator in kv.estimators.MEMBERS:
            yield f"{posterior}, {estimator}", layer(posterior, estimator)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=100)
    repeats = parser.parse_args(arguments).repeats
    keras.utils.set_random_seed(0)
    print(environment())

    x = np.random.uniform(size=(BATCH, 28, 28, 1)).astype("float32")
    y = np.random.randint(0, 10, BATCH)
    layers = {
        "Dense": keras.layers.Dense(500, use_bias=False),
        "VarianceDense": kv.VarianceDense(500, use_bias=False),
    }
    steps = {name: lenet_step(layer, x, y) for name, layer in layers.items()}
    report("LeNet-5, batch 200, first dense layer", steps, repeats)
    if BACKEND == "tensorflow":
        report_layers(repeats)
        report_noise(repeats)


def report_layers(repeats):
    x = keras.random.normal((BATCH, 800))
    layers = {"Dense": keras.layers.Dense(500)}
    layers |= variants(
        lambda posterior, estimator: kv.VarianceDense(
            500, posterior=posterior, estimator=estimator
        )
    )
    steps = {name: layer_step(layer, x) for name, layer in layers.items()}
    report("Dense 800 → 500, batch 200", steps, repeats)

    x = keras.random.normal((BATCH, 12, 12, 20))
    layers = {"Conv2D": keras.layers.Conv2D(50, 5)}
    layers |= variants(
        lambda posterior, estimator: kv.VarianceConv2D(
            50, 5, posterior=posterior, estimator=estimator
        )
    )
    steps = {name: layer_step(layer, x) for name, layer in layers.items()}
    report("Conv2D 20 → 50, 5×5 on 12×12, batch 200", steps, repeats)


def report_noise(repeats):
    import tensorflow as tf

    seed = keras.random.SeedGenerator(0)
    gaussian = kv.noises.Gaussian()
    for name, shape in (("dense", (BATCH, 500)), ("convolution", (BATCH, 8, 8, 50))):
        steps = {
            "keras.random.normal": partial(keras.random.normal, shape, seed=seed),
            "noises.Gaussian": partial(gaussian.sample, shape, "float32", seed),
        }
        steps = {key: tf.function(draw) for key, draw in steps.items()}
        title = f"Noise of local reparameterization, {name}: {np.prod(shape):,} normals"
        report(title, steps, repeats)


if __name__ == "__main__":
    main()
