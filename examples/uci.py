"""Regression on seven small data sets: trained by samples, and without any.

    python -m examples.uci --data-dir DIR [--smoke]

DIR has NAME.npz with the arrays x, (n, features), y, (n,), and test, (splits, n), true
for the test part of each split. One hidden layer of 50 ReLU units predicts mean and log
variance, and is trained by the ELBO:

    samples   the data term of one sample of the weights (local reparameterization)
    moments   its expectation from the moments of the outputs, in closed form:
              deterministic variational inference, with no noise in training

The networks of all splits of a set are one model, with an axis for the split in each
kernel: they share nothing but the order of the examples, and Python's overhead.
Features and targets are normalized by the training part of each split; log-likelihoods
are in the units of the data, of the average over 100 samples of the weights.

References: Wu et al., Deterministic Variational Inference for Robust Bayesian Neural
Networks (https://arxiv.org/abs/1810.03958), table 2; Gal & Ghahramani, Dropout as a
Bayesian Approximation (https://arxiv.org/abs/1506.02142), for the splits.
"""

import itertools
import math
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

import keras_variance as kv
from examples.paper import experiment, training

NAME = "uci"
UNITS = 50
BATCH_SIZE, RATE, STEPS = 50, 0.01, 10_000
SAMPLES = 100
# Of the set, with the test log-likelihood of DVI and of dropout, as published
PUBLISHED = {
    "boston": (-2.41, -2.40),
    "concrete": (-3.06, -2.93),
    "energy": (-1.01, -1.21),
    "kin8nm": (1.13, 1.14),
    "power": (-2.80, -2.80),
    "wine": (-0.90, -0.93),
    "yacht": (-0.47, -1.25),
}


@keras.saving.register_keras_serializable("examples.uci")
class EmpiricalNormal(kv.priors.Prior):
    """N(0, s²) with the best s for each split's kernel: empirical Bayes.

    s² = mean of μ² + σ² over the kernel, where KL = Σ log s/σ.
    """

    def log_prob(self, weights):
        return -ops.square(weights / self._scale(ops.square(weights))) / 2

    def kl(self, posterior, kernel, phi, seed=None):
        stddev = ops.abs(posterior.scale(kernel, phi))
        mean = posterior.mean(kernel, phi)
        squares = ops.square(stddev) + (0.0 if mean is None else ops.square(mean))
        scale = ops.sqrt(ops.mean(squares, axis=(1, 2), keepdims=True))
        return ops.log(scale / ops.maximum(stddev, 1e-15))


class Method(NamedTuple):
    """How weights are distributed: posterior and prior of the two layers."""

    title: str
    hidden: tuple
    output: tuple


NORMAL = EmpiricalNormal()
METHODS = {
    "normal": Method("additive, normal prior", *[("additive", NORMAL)] * 2),
    "ard": Method("additive, ARD prior", *[("additive", "ard")] * 2),
    "alpha": Method("weight α, ARD prior", *[("weight_alpha", "ard")] * 2),
    # With that prior, all of the hidden layer's noise goes, and all it knows
    "zero_mean": Method(
        "zero-mean hidden layer without a prior",
        ("zero_mean", None),
        ("additive", NORMAL),
    ),
}
TRAINED = ("moments", "samples")
# The first splits of the large sets, and of the other methods
FEW, LARGE = 5, ("kin8nm", "power")


class Data(NamedTuple):
    """The splits of a set, normalized: x (n, splits, features), y (n, splits, 1)."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    scale: np.ndarray  # of y, (splits,)


def load(args, name, splits):
    """`Data` of a set's first splits; of scikit-learn's diabetes for a smoke run."""
    if args.smoke:
        from sklearn.datasets import load_diabetes

        x, y = load_diabetes(return_X_y=True)
        test = np.random.default_rng(0).permuted(
            np.arange(2 * len(x)).reshape(2, -1) % len(x) < 44, axis=1
        )
    else:
        with np.load(Path(args.data_dir) / f"{name}.npz") as file:
            x, y, test = file["x"], file["y"], file["test"]
    test = test[:splits]
    if args.validate:
        return normalized(x, y, held_out(test), ~test & ~held_out(test))
    return normalized(x, y, test, ~test)


def held_out(test):
    """A tenth of each split's training part."""
    random = np.random.default_rng(1)
    ranks = np.argsort(np.argsort(random.random(test.shape) + test, axis=1), axis=1)
    return ranks < (~test).sum(axis=1, keepdims=True) // 10


def normalized(x, y, test, train):
    splits = []
    for chosen, kept in zip(test, train, strict=True):
        mean, deviation = x[kept].mean(axis=0), x[kept].std(axis=0)
        each = (x - mean) / np.where(deviation > 0, deviation, 1)
        target = (y - y[kept].mean()) / y[kept].std()
        parts = each[kept], target[kept], each[chosen], target[chosen]
        splits.append((*parts, y[kept].std()))
    x, y, x_test, y_test, scale = (
        np.stack(each, axis=-1) for each in zip(*splits, strict=True)
    )
    x, x_test = (np.moveaxis(each, -1, 1).astype("float32") for each in (x, x_test))
    y, y_test = (each[..., None].astype("float32") for each in (y, y_test))
    return Data(x, y, x_test, y_test, scale)


def network(method, data):
    """A network for each split: (batch, splits, features) to (batch, splits, 2)."""
    examples, splits, features = data.x.shape

    def layer(equation, sizes, posterior, prior, **options):
        # Keras's own scheme would count the splits among the inputs
        limit = math.sqrt(6 / sum(sizes))
        return kv.VarianceEinsumDense(
            equation,
            (splits, sizes[1]),
            bias_axes=equation[-2:],
            kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
            posterior=posterior,
            prior=prior,
            train_size=examples * splits,  # the loss is a mean over the splits, too
            **options,
        )

    return keras.Sequential(
        [
            keras.Input((splits, features)),
            layer("nsi,sio->nso", (features, UNITS), *method.hidden, activation="relu"),
            layer("nsi,sio->nso", (UNITS, 2), *method.output),
        ]
    )


def trained_by(name, model, steps, per_epoch):
    """The model that is fitted, with the weights of `model`."""
    loss = kv.losses.GaussianNLL()
    if name == "moments":
        options = {"likelihood": None, "statistics": True}
        moments = kv.transforms.propagate_moments(model, **options)
        y = [moments.output[each] for each in ("mean", "variance")]
        model = keras.Model(moments.input, keras.layers.Concatenate()(y))
        loss = kv.losses.ExpectedGaussianNLL()
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
    model.compile(keras.optimizers.Adam(rate), loss)
    return model


class Seconds(keras.callbacks.Callback):
    """CPU time of each epoch."""

    def on_train_begin(self, logs=None):
        self.each = []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        self.each.append(time.process_time() - self.began)


def run_one(method, trained, data, args):
    """RMSE and log-likelihoods for each split, seconds of an epoch: a dict."""
    keras.utils.set_random_seed(args.seed)
    per_epoch = len(data.x) // BATCH_SIZE
    epochs = math.ceil(args.steps / per_epoch)
    model = network(METHODS[method], data)
    fitted = trained_by(trained, model, epochs * per_epoch, per_epoch)
    seconds = Seconds()
    # Whole batches, of one shape
    x, y = (each[: per_epoch * BATCH_SIZE] for each in (data.x, data.y))
    history = fitted.fit(x, y, BATCH_SIZE, epochs, verbose=0, callbacks=[seconds])
    quality = evaluate(model, data)
    quality["loss"] = history.history["loss"][-1]
    quality["seconds"] = float(np.median(seconds.each[1:] or seconds.each))
    return quality


def evaluate(model, data):
    """In the units of the data: by samples, and by moments."""
    likelihood = kv.likelihoods.Gaussian()
    options = {"likelihood": likelihood, "batch_size": 500, "verbose": 0}
    sampled = {"samples": SAMPLES, "seed": 0, **options}
    mean = kv.mc_predict(model, data.x_test, **sampled).mean
    error = (mean - data.y_test)[..., 0]
    density = kv.log_likelihood(model, data.x_test, data.y_test, **sampled)
    moments = kv.moment_predict(model, data.x_test, **options)
    by_moments = likelihood.log_predictive(data.y_test, moments)
    return {
        "rmse": list(data.scale * np.sqrt(np.mean(error**2, axis=0))),
        "log_likelihood": list(density.mean(axis=0) - np.log(data.scale)),
        "by_moments": list(by_moments.mean(axis=0) - np.log(data.scale)),
    }


def run(args):
    args.work.mkdir(parents=True, exist_ok=True)
    results = {}
    for name, method, trained in itertools.product(
        args.sets, args.methods, args.trained
    ):
        splits = FEW if name in LARGE or method != "normal" else args.splits
        splits = min(splits, args.splits)
        data = load(args, name, splits)
        stem = f"uci-{name}-{method}-{trained}-splits{splits}-steps{args.steps}"
        stem += f"-seed{args.seed}" + "-validate" * args.validate
        path = args.work / f"{stem}.json"
        if args.kept and not path.exists():
            continue
        make = partial(run_one, method, trained, data, args)
        result = training.remembered(path, make)
        results.setdefault(name, {}).setdefault(method, {})[trained] = result
        cells = with_error(result["rmse"]), with_error(result["log_likelihood"])
        print(f"{name}, {method}, {trained}: {cells}", flush=True)
    return results


def with_error(values):
    """Mean and standard error over splits."""
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{np.mean(values):.2f} ± {error:.2f}"


def reaches(result, published):
    """Whether the log-likelihood is at most two standard errors below a published
    one."""
    values = result["log_likelihood"]
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return bool(np.mean(values) + 2 * error >= published)


def table(config, results):
    yield "# Regression, trained by samples and by moments\n"
    yield f"One hidden layer of {UNITS} ReLU units that predicts mean and log variance,"
    yield f"{config['data']}; {config['steps']:,} steps of Adam on"
    yield f"{config['batch_size']} examples, at {RATE} falling to 0. By samples: one"
    yield "sample of the weights a step. By moments: the expected log-likelihood in"
    yield f"closed form, no noise. Mean ± standard error over {config['splits']} splits"
    yield f"({FEW} of {' and '.join(LARGE)}). Number of steps and learning rate were"
    yield "chosen on a held-out tenth of the training parts of boston, concrete, energy"
    yield "and yacht (`--validate`); nothing else was tuned."
    yield ""
    yield from main_table(results)
    if any({*each} - {"normal"} for each in results.values()):
        yield from other_table(results)


def cell(result, key="log_likelihood", splits=None):
    """Of a table, for a result or for None."""
    return "–" if result is None else with_error(result[key][:splits])


def main_table(results):
    yield "## Posterior: additive, prior: normal, its scale by empirical Bayes\n"
    yield f"Test log-likelihood in nats, of the average over {SAMPLES} samples; in"
    yield "brackets of the Gaussian that `moment_predict` says, without a sample:\n"
    yield "| set | moments | samples | DVI, published | dropout, published |"
    yield "|---|---|---|---|---|"
    normal = {name: each.get("normal", {}) for name, each in results.items()}
    for name, each in normal.items():
        cells = [
            cell(each.get(by))
            + (f" ({np.mean(each[by]['by_moments']):.2f})" if by in each else "")
            for by in TRAINED
        ]
        cells += [f"{x:.2f}" for x in PUBLISHED.get(name, ())]
        yield f"| {name} | {' | '.join(cells)} |"
    for by in TRAINED:
        known = [name for name in PUBLISHED if by in normal.get(name, ())]
        reached = [
            name for name in known if reaches(normal[name][by], PUBLISHED[name][0])
        ]
        yield ""
        yield f"Trained by {by}, within two standard errors of published DVI or better:"
        yield f"{len(reached)} of {len(known)} sets ({', '.join(reached)})."
    yield "\nRMSE in the units of the targets, and CPU seconds of an epoch:\n"
    yield "| set | moments | samples | seconds, moments | samples | ratio |"
    yield "|---|---|---|---|---|---|"
    for name, each in normal.items():
        if {*each} == {*TRAINED}:
            cells = [cell(each[by], "rmse") for by in TRAINED]
            seconds = [each[by]["seconds"] for by in TRAINED]
            cells += [f"{x:.3f}" for x in seconds] + [f"{seconds[0] / seconds[1]:.2f}"]
            yield f"| {name} | {' | '.join(cells)} |"


def other_table(results):
    yield f"\n## Other weights, the first {FEW} splits\n"
    yield "Test log-likelihood in nats, as above; –: not run. The zero-mean layer has"
    yield "no prior: with one it predicted the targets' mean, as test parts showed.\n"
    pairs = [
        (method, by)
        for method, by in itertools.product(METHODS, TRAINED)
        if any(by in each.get(method, ()) for each in results.values())
    ]
    titles = [f"{METHODS[method].title}, {by}" for method, by in pairs]
    yield f"| set | {' | '.join(titles)} |"
    yield "|---" * (1 + len(titles)) + "|"
    for name, methods in results.items():
        if {*methods} - {"normal"}:
            found = [methods.get(method, {}).get(by) for method, by in pairs]
            cells = [cell(result, splits=FEW) for result in found]
            yield f"| {name} | {' | '.join(cells)} |"


def main(arguments=None):
    parser = experiment.parser(__doc__, seeds=1)
    parser.add_argument("--sets", nargs="+", default=list(PUBLISHED))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--trained", nargs="+", default=list(TRAINED))
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--validate", action="store_true", help="on a tenth of the training parts"
    )
    parser.add_argument(
        "--kept", action="store_true", help="only what --work has by now"
    )
    args = parser.parse_args(arguments)
    if not (args.smoke or args.report or args.data_dir):
        parser.error("--data-dir is needed, or --smoke")
    if args.smoke:
        args.sets, args.splits, args.steps = ["diabetes"], 2, 5
    experiment.execute(
        NAME,
        args,
        run,
        table,
        command=experiment.command(NAME, parser, args),
        package="examples",
        data="diabetes (smoke run)" if args.smoke else "seven UCI sets",
        batch_size=BATCH_SIZE,
        steps=args.steps,
        splits=args.splits,
    )


if __name__ == "__main__":
    main()
