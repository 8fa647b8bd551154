"""Time and file size of a pruned and shrunk model, against its source.

    python -m benchmarks.pruning [--repeats 40]

LeNet-5-Caffe with its first dense layer a variance layer, pruned as in
`examples.paper.mnist_pruning`, which has the accuracies. Its weights are random, the
offsets of BatchNorm too, so that pruned filters leave constants. One pass (a sample)
and an ensemble of 20 on 1,000 images, all compiled (with XLA where a GPU is visible)
and timed in turn; printed are medians, and how many times faster and smaller than
the source.
"""

import argparse

import keras

import keras_variance as kv
from benchmarks.ensemble import MODELS, lenet
from benchmarks.timing import compiled, environment, measure
from examples.paper import mnist_pruning

ROWS = 1000
SAMPLES = 20


def variants():
    """name: model, pruned and shrunk."""
    for name in mnist_pruning.VARIANTS:
        if name != mnist_pruning.GRADUALLY:  # as at once
            source = lenet(MODELS["one variance dense layer"])
            for layer in source.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.beta.assign(keras.random.normal(layer.beta.shape))
            yield name, kv.transforms.shrink(mnist_pruning.prepare(source, name))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    args = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    print(environment())
    models = dict(variants())
    samples = {
        name: kv.transforms.ensemble(model, SAMPLES) for name, model in models.items()
    }
    x = keras.random.uniform((ROWS, 28, 28, 1))
    one, many = (
        measure({name: compiled(each) for name, each in group.items()}, args.repeats, x)
        for group in (models, samples)
    )
    size = {name: mnist_pruning.saved_size(each)[0] for name, each in models.items()}
    source = mnist_pruning.UNPRUNED
    print(f"\nLeNet-5, one variance dense layer, {ROWS:,} images")
    print(f"{'  pruned':<28}{'one pass':>22}{f'{SAMPLES} samples':>22}{'file':>22}")
    for name in models:
        cells = [
            f"{1e3 * each[name]:8.1f} ms {each[source] / each[name]:7.2f} ×"
            for each in (one, many)
        ]
        ratio = size[source] / size[name]
        cells.append(f"{size[name] / 1e3:8.0f} kB {ratio:7.2f} ×")
        print(f"  {name:<26}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
