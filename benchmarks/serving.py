"""Time of an exported ensemble's endpoints against one deterministic pass.

    python -m benchmarks.serving [--repeats 40]

LeNet-5-Caffe, its first dense layer stochastic, 20 samples, exported and loaded by
`tf.saved_model.load`, for requests of 1, 32 and 1,000 images of 28×28. The pass is
that of a model of stock layers, exported and loaded likewise. All are called in turn;
printed are medians in milliseconds and their ratio to the pass.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import tensorflow as tf

import keras_variance as kv
from benchmarks.ensemble import MODELS, STOCK, lenet
from benchmarks.timing import environment, report

ROWS = (1, 32, 1000)
SAMPLES = 20


def endpoints(folder):
    """name: function of images, for each endpoint and the pass."""
    model, stock = lenet(MODELS["one variance dense layer"]), lenet(STOCK)
    stock.export(folder / "stock", verbose=False)
    fresh = kv.export(model, folder / "model", SAMPLES, likelihood="categorical")
    frozen = kv.export(
        model, folder / "model", SAMPLES, likelihood="categorical", frozen=True
    )
    signatures = {
        "deterministic pass": (folder / "stock", "serving_default"),
        "serving_default": (fresh, "serving_default"),
        "serving_default, frozen": (frozen, "serving_default"),
        "serving_seeded": (fresh, "serving_seeded"),
        "samples": (fresh, "samples"),
        "moments": (fresh, "moments"),
    }
    return {name: caller(*each) for name, each in signatures.items()}


def caller(folder, signature):
    loaded = tf.saved_model.load(str(folder))  # owns the variables
    function = loaded.signatures[signature]
    (name,) = {*function.structured_input_signature[1]} - {"seed"}
    seeded = signature == "serving_seeded"
    more = {"seed": tf.constant(1, tf.int64)} if seeded else {}

    def call(x, loaded=loaded):
        return {key: y.numpy() for key, y in function(**{name: x}, **more).items()}

    return call


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    args = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    print(environment())
    with tempfile.TemporaryDirectory() as folder:
        functions = endpoints(Path(folder))
        for rows in ROWS:
            x = tf.random.uniform((rows, 28, 28, 1))
            title = f"LeNet-5, one variance dense layer, {rows:,} images"
            report(title, functions, args.repeats, x)


if __name__ == "__main__":
    main()
