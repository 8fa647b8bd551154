"""Time and memory of an ensemble: one call against a loop of calls.

    python -m benchmarks.ensemble [--repeats 20]

LeNet-5-Caffe on 1,000 images of 28×28, its first dense layer stochastic, then all
four layers: one deterministic pass (stock layers), `samples` calls in a loop and
`ensemble`, all compiled and timed in turn; printed are medians and ratios. Then the
peak memory of `mc_predict`, each measured in a process of its own, and the cost of
`callbacks.MCPredict` in an epoch.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np

import keras_variance as kv
from benchmarks.timing import compiled, environment, measure
from examples.paper import common

ROWS = 1000
EPOCH_ROWS = 60_000
SAMPLES = (1, 5, 20, 100)


def lenet(layers):
    """LeNet-5-Caffe with BatchNorm, from (convolution, dense, last dense) classes."""
    convolution, dense, last = layers
    return common.lenet((28, 28, 1), convolution, convolution, dense, last)


STOCK = (keras.layers.Conv2D, keras.layers.Dense, keras.layers.Dense)
MODELS = {
    "one variance dense layer": (
        keras.layers.Conv2D,
        kv.VarianceDense,
        keras.layers.Dense,
    ),
    "all four layers": (kv.VarianceConv2D, kv.VarianceDense, kv.VarianceDense),
}


def report_time(title, layers, repeats):
    print(f"\nLeNet-5, {title}, {ROWS:,} images")
    print("  samples        loop    ensemble  / one pass  loop / ensemble")
    x = keras.random.uniform((ROWS, 28, 28, 1))
    model = lenet(layers)
    functions = {"pass": compiled(lenet(STOCK))}
    for samples in SAMPLES:
        # A loop's time is proportional: 100 calls are not timed
        functions["loop", samples] = compiled(model, calls=min(samples, 20))
        functions["ensemble", samples] = compiled(
            kv.transforms.ensemble(model, samples)
        )
    times = measure(functions, repeats, x)
    for samples in SAMPLES:
        loop = times["loop", samples] * samples / min(samples, 20)
        together = times["ensemble", samples]
        print(
            f"  {samples:7} {1e3 * loop:8.0f} ms {1e3 * together:8.0f} ms "
            f"{together / times['pass']:9.2f} × {loop / together:6.1f} ×"
        )
    print(f"  one deterministic pass: {1e3 * times['pass']:.0f} ms")


def peak_memory(samples):
    """Peak resident memory, in MB, of `mc_predict` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.ensemble", "--peak", str(samples)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout.split()[-1])


def print_peak(samples):
    model = lenet(MODELS["one variance dense layer"])
    x = np.random.uniform(size=(ROWS, 28, 28, 1)).astype("float32")
    kv.mc_predict(model, x, samples, likelihood="categorical", verbose=0)
    # Not `resource.getrusage`: a child process inherits its parent's peak there
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024)


class EpochSeconds(keras.callbacks.Callback):
    """Seconds of each epoch up to where this callback stands in the list."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def report_callback(epochs):
    """What `MCPredict` on a sixth of the rows adds to an epoch."""
    model = lenet(MODELS["one variance dense layer"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    x = np.random.uniform(size=(EPOCH_ROWS, 28, 28, 1)).astype("float32")
    y = np.random.randint(0, 10, len(x))
    before, after = EpochSeconds(), EpochSeconds()
    rows = EPOCH_ROWS // 6
    evaluate = kv.callbacks.MCPredict(x[:rows], y[:rows])
    callbacks = [before, evaluate, after]
    model.fit(x, y, 200, epochs + 1, verbose=0, callbacks=callbacks)
    # The first epoch compiles
    train = np.array(before.seconds[1:])
    share = (np.array(after.seconds[1:]) - train) / train
    print(
        f"\nMCPredict, {rows:,} rows, 20 samples: {100 * np.median(share):.1f} % of an"
    )
    print(f"epoch of {EPOCH_ROWS:,} ({np.median(train):.1f} s); median of {epochs}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=3, help="of the callback's run")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    if args.peak:
        print_peak(args.peak)
        return
    print(environment())
    for title, layers in MODELS.items():
        report_time(title, layers, args.repeats)
    few, many = peak_memory(20), peak_memory(1000)
    print(f"\nPeak memory of mc_predict: 20 samples {few:.0f} MB, 1,000 {many:.0f} MB")
    print(f"  ratio {many / few:.2f}")
    report_callback(args.epochs)


if __name__ == "__main__":
    main()
