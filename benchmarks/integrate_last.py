"""How many plain samples one with its last layer integrated is worth.

    python -m benchmarks.integrate_last [--dataset mnist --data-dir DIR] [--epochs 10]

LeNet-5-Caffe with all four layers stochastic is trained, and its test negative
log-likelihood printed for averages over few samples, plain and with
`integrate_last=True`, in the mean over disjoint sets of samples. The worth of S
integrated samples is the number of plain ones with the same likelihood, interpolated
in 1 / S. Then the time of both, in turn: medians and their ratio.
"""

import argparse

import keras
import numpy as np

import keras_variance as kv
from benchmarks.timing import compiled, report
from examples.data import DATASETS, load_data
from examples.networks import lenet

SAMPLES = (1, 2, 5, 10, 20)


def train(data, epochs, batch_size):
    """A network whose four layers have one α each, trained for its ELBO."""
    x, y = data
    config = {
        "posterior": kv.posteriors.LayerAlpha(0.0),
        "prior": "log_uniform",
        "train_size": len(x),
    }

    def convolution(*args, **kwargs):
        return kv.VarianceConv2D(*args, **kwargs, **config)

    def dense(*args, **kwargs):
        return kv.VarianceDense(*args, **kwargs, **config)

    model = lenet(x.shape[1:], convolution, convolution, dense, dense)
    steps = epochs * -(-len(x) // batch_size)
    rate = keras.optimizers.schedules.PolynomialDecay(3e-3, steps, 0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(x, y, batch_size, epochs, verbose=2)
    return model


def likelihoods(model, data, pool, integrate_last):
    """{samples: mean negative log-likelihood} of averages over so many samples."""
    x, y = data
    options = {"return_samples": True, "integrate_last": integrate_last}
    p = kv.mc_predict(model, x, pool, 200, seed=0, verbose=0, **options).samples
    p = p[np.arange(len(y)), :, y].astype("float64")  # (examples, pool)
    return {
        samples: float(np.mean(-np.log(np.maximum(_averages(p, samples), 1e-30))))
        for samples in SAMPLES
    }


def _averages(p, samples):
    sets = p[:, : p.shape[1] // samples * samples].reshape(len(p), -1, samples)
    return sets.mean(axis=-1)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=DATASETS, default="digits")
    parser.add_argument("--data-dir", help="folder of DATASET.npz; default: download")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rows", type=int, default=1000, help="test images")
    parser.add_argument("--pool", type=int, default=200, help="samples that are drawn")
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    data, test_data = load_data(args.dataset, args.data_dir)
    test_data = tuple(each[: args.rows] for each in test_data)
    model = train(data, args.epochs, 200 if args.dataset == "mnist" else 50)

    plain = likelihoods(model, test_data, args.pool, False)
    integrated = likelihoods(model, test_data, args.pool, True)
    print(f"\nNLL on {len(test_data[0]):,} images of {args.dataset}, nats per image")
    print("  samples    plain   integrated   worth, plain samples")
    # NLL is about linear in 1 / S
    order = np.argsort([plain[samples] for samples in SAMPLES])
    nll = np.array([plain[samples] for samples in SAMPLES])[order]
    inverse = np.array([1 / samples for samples in SAMPLES])[order]
    for samples in SAMPLES:
        worth = 1 / np.interp(integrated[samples], nll, inverse)
        more = "≥ " if integrated[samples] <= nll[0] else ""
        print(
            f"  {samples:7} {plain[samples]:8.4f} {integrated[samples]:12.4f}"
            f"   {more}{worth:.1f}"
        )

    x = keras.ops.convert_to_tensor(test_data[0])
    functions = {
        name: compiled(kv.transforms.ensemble(model, 10, integrate_last=last))
        for name, last in (("plain", False), ("integrated", True))
    }
    report("10 samples", functions, args.repeats, x)


if __name__ == "__main__":
    main()
