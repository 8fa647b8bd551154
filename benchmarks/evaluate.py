"""What `evaluate` costs beside the prediction of its samples.

    python -m benchmarks.evaluate [--repeats 10]

LeNet-5-Caffe, its first dense layer stochastic, on 10,000 random images of MNIST's
size: `mc_predict` with 20 samples, `evaluate` with all predictors and without moments,
all with the same batches, timed in turn after they were traced; printed are medians and
their ratio to `mc_predict`.
"""

import argparse

import keras
import numpy as np

import keras_variance as kv
from benchmarks.ensemble import MODELS, lenet
from benchmarks.timing import environment, report

ROWS, SAMPLES, BATCH_SIZE = 10_000, 20, 256
WITHOUT_MOMENTS = ("sample", "means", "samples")


def report_time(repeats):
    model = lenet(MODELS["one variance dense layer"])
    x = np.random.uniform(size=(ROWS, 28, 28, 1)).astype("float32")
    y = np.arange(ROWS) % 10
    options = {
        "samples": SAMPLES,
        "batch_size": BATCH_SIZE,
        "likelihood": kv.likelihoods.Categorical(from_logits=True),
    }
    functions = {
        f"mc_predict, {SAMPLES} samples": lambda: kv.mc_predict(
            model, x, **options, verbose=0
        ),
        "evaluate": lambda: kv.evaluate(model, x, y, **options),
        "evaluate, without moments": lambda: kv.evaluate(
            model, x, y, **options, predictors=WITHOUT_MOMENTS
        ),
    }
    report(f"LeNet-5, {ROWS:,} images", functions, repeats)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    print(environment())
    report_time(args.repeats)


if __name__ == "__main__":
    main()
