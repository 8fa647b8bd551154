"""Time of `propagate_moments` against a deterministic pass, and against samples.

    python -m benchmarks.moments [--repeats 40]

LeNet-5-Caffe on 1,000 images of 28×28, its first dense layer stochastic, then all
four layers: one deterministic pass (stock layers), one of moments with each head, one
sample, and ensembles, all compiled and timed in turn; printed are medians in
milliseconds and their ratio to the pass.
"""

import argparse

import keras

import keras_variance as kv
from benchmarks.ensemble import MODELS, STOCK, lenet
from benchmarks.timing import compiled, environment, report

ROWS = 1000


def report_time(title, layers, repeats):
    model = lenet(layers)
    functions = {"deterministic pass": compiled(lenet(STOCK))}
    for head in kv.moments.heads.MEMBERS:
        moments = kv.transforms.propagate_moments(
            model, likelihood="categorical", head=head
        )
        functions[f"moments, {head}"] = compiled(moments)
    functions["one sample"] = compiled(model)
    for samples in (20, 200):
        ensemble = kv.transforms.ensemble(model, samples)
        functions[f"{samples} samples"] = compiled(ensemble)
    x = keras.random.uniform((ROWS, 28, 28, 1))
    report(f"LeNet-5, {title}, {ROWS:,} images", functions, repeats, x)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    args = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    print(environment())
    for title, layers in MODELS.items():
        report_time(title, layers, args.repeats)


if __name__ == "__main__":
    main()
