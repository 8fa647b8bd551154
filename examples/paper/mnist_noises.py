"""Gaussian, Bernoulli and uniform noise, drawn by each estimator, on MNIST.

    python -m examples.paper.mnist_noises [--data-dir DIR] [--smoke]

Variance Networks, section 3.3: LeNet-5-Caffe with its first dense layer a variance
layer. Moment matching draws any noise as local reparameterization draws the Gaussian
one, so that these are one trained model; it is tested with every noise and estimator.
The others are trained and tested with their own.

BatchNorm behind the layer predicts with moving averages, and, as in the paper's code,
with the statistics of the test batch: in training one kernel for a whole batch moves
the batch's mean, which BatchNorm takes away again, but its moving average can't.
"""

import keras
import numpy as np

from examples.paper import common, experiment

NAME = "mnist_noises"
NOISES = ("gaussian", "bernoulli", "uniform")
ONE, MANY, BATCHED = "one sample", "20 samples", "one sample, batch statistics"
MATCHED = "moment matching"
LONG = f"{MATCHED}, longer"
EPOCHS = {MATCHED: 5, "flipout": 5, "weight sampling": 5, LONG: common.EPOCHS}


def accuracy(model, x, y, samples, **config):
    """In percent, of the average over samples drawn as `config` says."""
    model = common.redrawn(model, **config)
    return common.quality(common.sampled(model, x, samples), y)["accuracy"]


def with_batch_statistics(model, x, y, **config):
    """Accuracy of one sample a batch, in training mode."""
    model = common.redrawn(model, **config, seed=0)
    size = common.BATCH_SIZE
    batches = np.split(x, range(size, len(x), size))
    logits = [keras.ops.convert_to_numpy(model(b, training=True)) for b in batches]
    return 100 * common.accuracy(y, np.concatenate(logits))


def accuracies(model, x, y, **config):
    return {
        ONE: accuracy(model, x, y, 1, **config),
        BATCHED: with_batch_statistics(model, x, y, **config),
        MANY: accuracy(model, x, y, 20, **config),
    }


def matched(noise):
    gaussian = noise == "gaussian"
    return "local_reparameterization" if gaussian else "moment_matching"


def run(args):
    data, test_data = common.load(args)
    results = {title: [] for title in EPOCHS}
    noises = NOISES[:1] if args.smoke else NOISES
    for seed in common.seeds(args):
        for title in ("flipout", "weight sampling"):
            rows = {}
            for noise in noises:
                config = {"noise": noise, "estimator": title.replace(" ", "_")}
                name = f"lenet-{noise}-{config['estimator']}"
                model = common.one_variance_layer(
                    data, args, seed, name, EPOCHS[title], **config
                )
                rows[noise] = accuracies(model, *test_data, **config)
                print(f"{title}, {noise}, seed {seed}: {rows[noise]}", flush=True)
            results[title].append(rows)
        for title in (MATCHED, LONG):
            model = common.one_variance_layer(data, args, seed, epochs=EPOCHS[title])
            rows = {}
            for noise in noises:
                rows[noise] = {
                    estimator: accuracies(
                        model, *test_data, noise=noise, estimator=estimator
                    )
                    for estimator in (matched(noise), "flipout", "weight_sampling")
                }
                print(f"{title}, {noise}, seed {seed}: {rows[noise]}", flush=True)
            results[title].append(rows)
    return results


def mean(seeds, *keys):
    """Of one figure, over the seeds."""
    values = []
    for each in seeds:
        for key in keys:
            each = each[key]
        values.append(each)
    return sum(values) / len(values)


def table(config, results):
    number = len(config["seeds"])
    yield "# Noises and estimators\n"
    yield f"LeNet-5, one variance dense layer, {config['data']}; accuracy in percent,"
    yield f"mean of {number} seeds. Trained and tested with the same noise and"
    yield "estimator:\n"
    yield f"| estimator | epochs | noise | {ONE} | {BATCHED} | {MANY} |"
    yield "|---|---|---|---|---|---|"
    for title, seeds in results.items():
        for noise in seeds[0]:
            keys = (noise, matched(noise)) if title in (MATCHED, LONG) else (noise,)
            epochs = experiment.epochs(config, title)
            row = (f"{mean(seeds, *keys, x):.2f}" for x in (ONE, BATCHED, MANY))
            yield f"| {title} | {epochs} | {noise} | {' | '.join(row)} |"
    yield "\nTrained with moment matching, longer, and tested with every noise and"
    yield "estimator, 20 samples. (Flipout and weight sampling are one in an ensemble,"
    yield "which draws a kernel a sample.)\n"
    yield "| noise | moment matching | flipout | weight sampling |"
    yield "|---|---|---|---|"
    for noise in results[LONG][0]:
        each = (matched(noise), "flipout", "weight_sampling")
        row = (mean(results[LONG], noise, x, MANY) for x in each)
        yield f"| {noise} | " + " | ".join(f"{x:.2f}" for x in row) + " |"


def best(results, noise):
    """Accuracy of 20 samples by the training that suits the noise best."""
    keys = dict.fromkeys(results, (noise,))
    keys |= dict.fromkeys((MATCHED, LONG), (noise, matched(noise)))
    return max(mean(x, *keys[title], MANY) for title, x in results.items())


def compare(config, results):
    return experiment.Comparison(
        "Section 3.3, Gaussian, Bernoulli and uniform noise, %",
        "99.3, 98.7, 98.7",
        ", ".join(f"{best(results, noise):.2f}" for noise in results[LONG][0]),
        "The paper draws Bernoulli and uniform noise once a batch; the best here is "
        f"one network, trained by {MATCHED}, tested with each noise. With one kernel a "
        "batch gradients are noisier, and training is far slower.",
    )


def main(arguments=None):
    experiment.main(NAME, __doc__, run, table, EPOCHS, arguments=arguments)


if __name__ == "__main__":
    main()
