"""An experiment: its command line, its result file and the page made of that.

It runs as `python -m examples.paper.NAME`, keeps its trained models in `--work`,
resumes after an interruption, and writes `docs/results/NAME.json`, and `NAME.md`.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import keras
from matplotlib import pyplot as plt

import keras_variance as kv
from examples.paper import common, training

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def parser(description, seeds=3):
    """The arguments of every experiment."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, help="of every model")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--seeds", type=int, default=seeds, help="how many")
    parser.add_argument("--data-dir", help="folder of DATASET.npz; default: download")
    parser.add_argument(
        "--work", type=Path, default=Path("work"), help="folder for trained models"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--report", action="store_true", help="only write the table of the results"
    )
    parser.add_argument("--smoke", action="store_true", help="a few images, in seconds")
    return parser


def parse(parser, arguments=None):
    """The arguments; a smoke run has two epochs, unless told otherwise, of one seed."""
    args = parser.parse_args(arguments)
    if args.smoke:
        args.epochs, args.seeds = args.epochs or 2, 1
    return args


def command(name, parser, args):
    """What to call for such results: the experiment, and options that are not default.

    Args:
        name: Of the experiment's module.
        parser: Made by `parser`, with the experiment's own arguments.
        args: What it has parsed.
    """
    elsewhere = ("data_dir", "work", "results", "report")  # they change no number
    words = [name]
    for key, value in vars(args).items():
        if key not in elsewhere and value != parser.get_default(key):
            words.append(f"--{key.replace('_', '-')}")
            if value is not True:
                words += map(str, value if isinstance(value, list) else [value])
    return " ".join(words)


def write(name, args, results, epochs=None, recipes=(), seconds=None, **config):
    """The result JSON: what was run, with which versions, and what came out.

    Args:
        epochs: Of training, if no others were asked for; None for no training.
        recipes: What `training.noted` has of the models: how each was trained, with
            which commit, on which device, in how many seconds.
        seconds: Of the whole experiment, without models that were there before.
        **config: What else is to be told, such as `data` and `batch_size`.
    """
    backend = keras.backend.backend()
    versions = {each.__name__: each.__version__ for each in (kv, keras)}
    versions[backend] = version(backend)
    if epochs is not None:
        epochs = args.epochs or epochs
        config |= {"epochs": epochs, "seeds": list(common.seeds(args))}
    config = {
        "versions": versions,
        "commit": training.commit(),
        "device": training.device(),
        "seconds": seconds,
        **config,
        "recipes": list(recipes),
    }
    args.results.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"config": config, "results": results}, indent=2) + "\n"
    path = args.results / f"{name}.json"
    training.replace(path, lambda temporary: temporary.write_text(text))


def report(name, args, table):
    """Write `table(config, results)`, Markdown lines, for the results of a JSON."""
    written = json.loads((args.results / f"{name}.json").read_text())
    lines = list(table(written["config"], written["results"]))
    command = written["config"].get("command", name)
    package = written["config"].get("package", "examples.paper")
    lines.append(
        f"\nMade by `python -m {package}.{command}`; all numbers: "
        f"[{name}.json]({name}.json)."
    )
    path = args.results / f"{name}.md"
    path.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"Written: {path}")


def save(figure, path):
    """Write a picture, and let go of the figure."""
    figure.savefig(path, dpi=110)
    plt.close(figure)


class Comparison(NamedTuple):
    """A row of the table of all results: figures are words, made of a result JSON."""

    item: str  # of the paper
    paper: str
    ours: str
    difference: str = ""  # why, where there is one


def epochs(config, title=None):
    """Of training, from a result's config; of one model where they differ."""
    epochs = config["epochs"]
    return epochs[title] if isinstance(epochs, dict) else epochs


def main(
    name,
    description,
    run,
    table,
    epochs=None,
    seeds=3,
    data="mnist",
    batch_size=common.BATCH_SIZE,
    arguments=None,
):
    """An experiment from its command line: `run(args)` makes results and pictures."""
    args = parse(parser(description, seeds), arguments)
    data = "digits (smoke run)" if args.smoke else data
    config = {} if epochs is None else {"data": data, "batch_size": batch_size}
    execute(name, args, run, table, epochs, **config)


def execute(name, args, run, table, epochs=None, **config):
    """Make results, unless the arguments ask for the page alone, and the page."""
    if not args.report:
        args.results.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        with training.noted() as recipes:
            results = run(args)
        seconds = round(time.perf_counter() - began, 1)
        write(name, args, results, epochs, recipes, seconds, **config)
    report(name, args, table)
