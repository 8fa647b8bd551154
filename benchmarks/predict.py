"""What `mc_predict` and `moment_predict` cost beside the models that they run.

    python -m benchmarks.predict [--repeats 20] [--calls 100]

First a second call of `mc_predict` (LeNet-5-Caffe, its first dense layer stochastic, 20
samples) against `predict` of the model that it keeps, for 1,000 images and for 32;
then how much memory many calls take; then a head of 1,000 classes on 2,048 random
features, 32 examples: one pass of moments against 20 samples, and its peak memory,
measured in a process of its own. Printed are medians and ratios, timed in turn.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

import keras_variance as kv
from benchmarks.ensemble import MODELS, lenet
from benchmarks.timing import report

FEATURES, CLASSES, ROWS = 2048, 1000, 32


def resident():
    """(present, peak) resident memory of this process, in MB."""
    status = Path("/proc/self/status").read_text()
    return tuple(
        int(re.search(rf"{name}:\s*(\d+) kB", status)[1]) / 1024
        for name in ("VmRSS", "VmHWM")
    )


def report_overhead(rows, repeats):
    model = lenet(MODELS["one variance dense layer"])
    x = np.random.uniform(size=(rows, 28, 28, 1)).astype("float32")
    options = {"batch_size": 1000, "verbose": 0}
    likelihood = kv.likelihoods.Categorical(from_logits=True)
    predictor = kv.transforms.predictive(model, likelihood=likelihood)
    functions = {
        "predict of the predictive model": lambda x: predictor.predict(x, **options),
        "mc_predict": lambda x: kv.mc_predict(
            model, x, likelihood=likelihood, **options
        ),
    }
    report(f"LeNet-5, 20 samples, {rows:,} images", functions, repeats, x)


def report_growth(calls):
    model = lenet(MODELS["one variance dense layer"])
    x = np.random.uniform(size=(ROWS, 28, 28, 1)).astype("float32")
    options = {"likelihood": "categorical", "verbose": 0}
    for _ in range(20):  # allocators warm up
        kv.mc_predict(model, x, **options)
    before, _ = resident()
    for _ in range(calls):
        kv.mc_predict(model, x, **options)
    print(f"\n{calls} calls of mc_predict: {resident()[0] - before:+.1f} MB")


def many_classes():
    """A model with a wide head on random features, and its inputs."""
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            kv.VarianceDense(FEATURES, "relu"),
            keras.layers.Dense(CLASSES, "softmax"),
        ]
    )
    return model, np.random.normal(size=(ROWS, FEATURES)).astype("float32")


def report_many_classes(repeats):
    model, x = many_classes()
    functions = {
        "mc_predict, 20 samples": lambda x: kv.mc_predict(model, x, verbose=0),
        "moment_predict": lambda x: kv.moment_predict(model, x, verbose=0),
    }
    title = f"{FEATURES:,} features, {CLASSES:,} classes, {ROWS} examples"
    report(title, functions, repeats, x)
    command = [sys.executable, "-m", "benchmarks.predict", "--peak"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    print(f"  peak memory that moment_predict adds: {result.stdout.split()[-1]} MB")


def print_peak():
    model, x = many_classes()
    model.predict(x, verbose=0)
    before, _ = resident()
    kv.moment_predict(model, x, verbose=0)
    print(f"{resident()[1] - before:.0f}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    if args.peak:
        print_peak()
        return
    for rows in (1000, 32):
        report_overhead(rows, args.repeats)
    report_growth(args.calls)
    report_many_classes(args.repeats)


if __name__ == "__main__":
    main()
