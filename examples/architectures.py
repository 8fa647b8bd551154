"""What works on which architecture: `keras.applications` and KerasHub, in numbers.

    python -m examples.architectures [--architectures NAME …] [--smoke]

Every network is made at its smallest input, with few classes and random weights, and
goes through the package: its layers are turned by `replace`, it is sampled, drawn,
saved and loaded, its moments are propagated, and it is exported. A number in the table
is the largest difference of outputs that should be equal, as a share of the largest
output; or what the heading says. If an operation fails the cell has the first line of
the error. KerasHub (`pip install keras-hub`) is skipped where it is not installed.

It resumes: `--work` has a file for each architecture, with what is done of it, after
each operation. The largest networks need more than one process, with `--operations`:
together they hold more than 20 GB.
"""

import functools
import gc
import json
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

import keras_variance as kv
from examples.paper import experiment, training
from examples.zoo import HUB, applications, build, names
from keras_variance.transforms.walk import operations

NAME = "architectures"
SAMPLES, SMOKE_SAMPLES = 200, 20
FALLBACK = 20  # samples of what has no rule for moments
ESTIMATED = " (estimated)"
LONGEST = 120  # letters of an error in the table; the JSON has all
QUIET = kv.posteriors.LayerAlpha(-80.0)  # no noise
LOGITS = kv.likelihoods.Categorical(from_logits=True)


def largest_difference(a, b):
    """Of all outputs, as a share of the largest one."""
    a, b = (np.asarray(keras.ops.convert_to_numpy(x), "float64") for x in (a, b))
    return float(np.abs(a - b).max() / np.abs(b).max())


class Subject:
    """A network, its inputs, and what `replace` makes of it."""

    def __init__(self, model, x, samples=SAMPLES):
        self.model, self.x, self.samples = model, x, samples

    @functools.cached_property
    def expected(self):
        return self.model(self.x)

    @functools.cached_property
    def quiet(self):
        """Every layer that can be turned or wrapped, without noise."""
        return kv.transforms.replace(self.model, QUIET, _every)

    @functools.cached_property
    def sampled(self):
        """As `quiet`, with noise: one draw of the weights in each call."""
        options = {"estimator": "weight_sampling", "seed": 0}
        return kv.transforms.replace(self.model, layers=_every, **options)

    @functools.cached_property
    def probabilities(self):
        return keras.ops.softmax(self.expected)


def _every(layer):
    return True


def rounded(subject):
    """The stock network as `predict` compiles it, against its call: rounding alone."""
    outputs = subject.model.predict(subject.x, verbose=0)
    return largest_difference(outputs, subject.expected)


def turned(subject):
    """The share of the weights that is random by default."""
    return kv.transforms.replace_report(subject.model).share


def turned_all(subject):
    """The same, if every layer is chosen."""
    return kv.transforms.replace_report(subject.model, _every).share


def replaced(subject):
    """Without noise, against the network."""
    return largest_difference(subject.quiet(subject.x), subject.expected)


def ensembled(subject):
    """Two samples without noise, against the network."""
    outputs = kv.transforms.ensemble(subject.quiet, 2)(subject.x)
    expected = keras.ops.repeat(subject.expected[:, None], 2, axis=1)
    return largest_difference(outputs, expected)


def mc_predicted(subject):
    """Probabilities, the mean of two samples without noise, against the network's."""
    options = {"likelihood": LOGITS, "verbose": 0}
    prediction = kv.mc_predict(subject.quiet, subject.x, samples=2, **options)
    return largest_difference(prediction.mean, subject.probabilities)


def as_stock(function, stock):
    """`function` of a subject; where it fails, and `stock` of the network as well, the
    error says so."""

    @functools.wraps(function)
    def operation(subject):
        try:
            return function(subject)
        except Exception:
            try:
                stock(subject.model)
            except Exception as error:
                raise StockError(error) from error
            raise

    return operation


class StockError(Exception):
    """Keras, or the network itself, fails in the same way."""


def drawn(subject):
    """A draw, against a call of the network that has the same noise."""
    model = subject.sampled
    seeds = kv.random.SeedGenerator(5)  # as `draw` has it, layer by layer
    layers = {id(x): x for x in operations(model) if hasattr(x, "random_weights")}
    for layer in layers.values():
        layer.seed_generator.state.assign(keras.ops.copy(seeds.state))
        seeds.next()
    expected = model(subject.x)
    if largest_difference(expected, subject.expected) < 1e-6:
        raise ValueError("No noise reaches the outputs")
    return largest_difference(kv.transforms.draw(model, 5)(subject.x), expected)


def saved_and_loaded(model):
    """A model, from a `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return keras.models.load_model(path)


def reloaded(subject):
    """The network with its noise, loaded from a `.keras` file, under the same seed."""
    model = subject.sampled
    loaded = saved_and_loaded(model)
    with kv.random.seeded(model, 7):
        expected = model(subject.x)
    with kv.random.seeded(loaded, 7):
        return largest_difference(loaded(subject.x), expected)


def moments_of_last(subject):
    """The largest |z| of mean and variance, only the last layer random: exact."""
    model = kv.transforms.replace(subject.model, layers="last")
    mean, variance, draws = _moments_and_draws(model, subject, 10 * subject.samples)
    n = draws.shape[1]
    scale = np.where(variance > 0, variance, 1)  # 0 where all inputs are
    z_mean = (draws.mean(axis=1) - mean) / np.sqrt(scale / n)
    excess = (draws.var(axis=1, ddof=1) - variance) / scale
    z_variance = excess / np.sqrt(2 / (n - 1))
    return float(max(np.abs(z_mean).max(), np.abs(z_variance).max()))


def moments_of_all(subject):
    """The correlation of means, and the median ratio of variances, all turned; and the
    error without `fallback_samples`, if there is one."""
    model, samples = kv.transforms.replace(subject.model), subject.samples
    try:
        found, needed = _moments_and_draws(model, subject, samples), []
    except ValueError as error:
        options = {"fallback_samples": FALLBACK}
        found, needed = _moments_and_draws(model, subject, samples, **options), [error]
    mean, variance, draws = found
    correlation = np.corrcoef(draws.mean(axis=1).ravel(), mean.ravel())[0, 1]
    ratio = np.median(variance / draws.var(axis=1, ddof=1))
    return [float(correlation), float(ratio), *map(str, needed)]


def _moments_and_draws(model, subject, samples, **options):
    options |= {"likelihood": None, "statistics": True}
    moments = kv.transforms.propagate_moments(model, **options)(subject.x)
    moments = [keras.ops.convert_to_numpy(moments[k]) for k in ("mean", "variance")]
    draws = kv.transforms.ensemble(model, samples, shared_noise=False, seed=1)
    draws = draws.predict(subject.x, verbose=0)
    return *(np.asarray(x, "float64") for x in moments), draws.astype("float64")


def exported(subject):
    """A SavedModel without noise, in TensorFlow, against the network."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        path = kv.export(subject.quiet, folder, samples=2, likelihood=LOGITS)
        served = tf.saved_model.load(path)
        specs = keras.tree.flatten(subject.quiet.input)
        inputs = zip(specs, keras.tree.flatten(subject.x), strict=True)
        feed = {spec.name: tf.cast(x, spec.dtype) for spec, x in inputs}
        outputs = served.signatures["serving_default"](**feed)
    return largest_difference(outputs["mean"], subject.probabilities)


OPERATIONS = {
    "rounding": rounded,
    "turned": turned,
    "turned, all chosen": turned_all,
    "replace": replaced,
    "ensemble": ensembled,
    "mc_predict": mc_predicted,
    "draw": as_stock(drawn, keras.models.clone_model),
    "save and load": as_stock(reloaded, saved_and_loaded),
    "moments, last layer: largest z": moments_of_last,
    "moments: correlation, variance ratio": moments_of_all,
    "export": exported,
}


def measure(name, samples=SAMPLES, chosen=None, keep=lambda results: None):
    """A number, or an error, for each operation; and the processor time, in seconds.

    If there is no network the error is in the place of the number of its parameters.

    Args:
        name: Of the architecture.
        samples: Of the moments.
        chosen: Operations; all by default.
        keep: Function of the results until now, called after each operation.
    """
    operations = OPERATIONS if chosen is None else chosen
    began = time.process_time()
    made = attempt(build, name)
    if isinstance(made, str):
        results = {"parameters": made, **dict.fromkeys(operations), "seconds": None}
        keep(results)
        return results
    subject = Subject(*made, samples)
    results = {"parameters": subject.model.count_params()}
    for operation in operations:
        results[operation] = attempt(OPERATIONS[operation], subject)
        print(f"{name}, {operation}: {results[operation]}", flush=True)
        keep(results | {"seconds": round(time.process_time() - began, 1)})
    return results | {"seconds": round(time.process_time() - began, 1)}


def attempt(function, *args):
    """What a function returns, or the class and the first line of its error."""
    try:
        with warnings.catch_warnings():
            # Of what is left, and of dependence: the table has both in numbers
            warnings.simplefilter("ignore", UserWarning)
            return function(*args)
    except Exception as error:  # the table says which
        first, *_ = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {first}"


def run(args):
    args.work.mkdir(parents=True, exist_ok=True)
    samples = SMOKE_SAMPLES if args.smoke else SAMPLES
    for name in args.architectures:
        path = _path(args, name)
        row = json.loads(path.read_text()) if path.exists() else {}
        missing = [each for each in args.operations if each not in row]
        if missing:
            measure(name, samples, missing, functools.partial(_keep, path, row))
        keras.backend.clear_session()
        gc.collect()
    done = {name: _path(args, name) for name in (*applications(), *HUB)}
    return {k: json.loads(p.read_text()) for k, p in done.items() if p.exists()}


def _keep(path, row, more):
    """Write what is done of an architecture: what was, and what is new."""
    spent = [each["seconds"] for each in (row, more) if each.get("seconds")]
    text = json.dumps({**row, **more, "seconds": sum(spent) or None})
    training.replace(path, lambda part: part.write_text(text))


def _path(args, name):
    return args.work / f"{NAME}-{name}{'-smoke' if args.smoke else ''}.json"


def table(config, results):
    yield "# What works on which architecture\n"
    yield "`keras.applications` and KerasHub at their smallest inputs, with random"
    yield "weights and the statistics of BatchNorm from a batch. *Turned* is the share"
    yield "of the weights that `replace` makes random, by default and with every layer"
    yield "chosen. The other numbers are the largest difference from the network, or"
    yield "from a call with the same noise, as a share of the largest output. Of the"
    yield "moments: the largest |z| of mean and variance against samples where they are"
    yield "exact, with one random layer at the end (its noise, of one seed, is the same"
    yield "in each row, and so is |z| if they are right); with all layers turned by"
    yield "default the correlation of the means and the median ratio of the variances,"
    yield "of which moments ignore the dependence. *Estimated* are those with"
    yield f"`fallback_samples={FALLBACK}`, as without it there is an error: products of"
    yield "dependent values, or attention. Last, processor time in seconds.\n"
    yield "*Rounding* is how far the stock network itself is from what it is when"
    yield "compiled. Deep networks with random weights may multiply rounding errors"
    yield "until outputs are arbitrary: then the differences in the row, and its |z|,"
    yield "say nothing of the operations. *StockError*: Keras does not copy the stock"
    yield "network either, or load it.\n"
    missing = [each for each in (*applications(), *HUB) if each not in results]
    missing += [
        f"{name} ({operation})"
        for name, row in results.items()
        for operation in OPERATIONS
        if operation not in row
    ]
    yield f"{config['samples']} samples. Not run, for want of memory or of KerasHub:"
    yield f"{', '.join(missing) or 'none'}.\n"
    columns = ("parameters", *OPERATIONS, "seconds")
    yield f"| architecture | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    for name, row in results.items():
        cells = " | ".join(_cell(row.get(column), column) for column in columns)
        yield f"| {name} | {cells} |"


def _cell(value, column):
    if value is None:
        return ""
    if isinstance(value, str):
        short = value if len(value) <= LONGEST else f"{value[:LONGEST]} …"
        return short.replace("|", "\\|")
    if isinstance(value, list):
        correlation, ratio, *error = value
        return f"{correlation:.2f}, {ratio:.2f}" + ESTIMATED * bool(error)
    if column in ("parameters", "seconds"):
        return f"{value:,.0f}"
    if column.startswith("turned"):
        return f"{100 * value:.1f} %"
    return f"{value:.1f}" if column.startswith("moments") else f"{value:.0e}"


def main(arguments=None):
    parser = experiment.parser(__doc__, seeds=1)
    known = [*applications(), *HUB]
    parser.add_argument("--architectures", nargs="+", metavar="NAME", choices=known)
    parser.add_argument(
        "--operations",
        nargs="+",
        metavar="NAME",
        choices=OPERATIONS,
        default=[*OPERATIONS],
        help="columns of the table; default: all",
    )
    args = parser.parse_args(arguments)
    command = experiment.command(NAME, parser, args)
    if args.architectures is None:
        args.architectures = ["MobileNetV2"] if args.smoke else names()
    missing = {*args.architectures} - {*names()}
    if missing and not args.report:
        parser.error(f"{', '.join(sorted(missing))} need KerasHub: not installed")
    if not set(HUB) <= set(names()):
        print("KerasHub is not installed: its architectures are skipped.")
    versions = {"keras_hub": version("keras_hub")} if set(HUB) <= set(names()) else {}
    samples = SMOKE_SAMPLES if args.smoke else SAMPLES
    config = {"package": "examples", "command": command, "samples": samples, **versions}
    experiment.execute(NAME, args, run, table, **config)


if __name__ == "__main__":
    main()
