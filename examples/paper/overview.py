"""The paper's figures and tables beside those here: docs/results/README.md.

    python -m examples.paper.overview

Made of the JSON files that the experiments have written.
"""

import argparse
import importlib
import json
from pathlib import Path

from examples.paper import experiment

NAMES = (
    "toy",
    "kl_curves",
    "mnist_classification",
    "mnist_noises",
    "mnist_parameterizations",
    "mnist_phase_transition",
    "mnist_tanh",
    "mnist_longer",
    "mnist_histogram",
    "mnist_pruning",
    "mnist_activations",
    "cifar_classification",
    "cifar100_classification_width0.125",
    "cifar100_classification_width0.25",
    "cifar_phase_transition",
    "cifar_phase_transition_width0.125",
    "cifar_pruning",
    "cifar_adversarial_width0.125",
    "theorem1",
    "reinforcement_learning",
)
BEYOND = {
    "mnist_starts": "table 2 from other starts",
    "cifar_parameterizations_width0.125": "parameterizations by ELBO on CIFAR-10, in a "
    "small network after 30 epochs",
    "cifar_ensembles_width0.125": "deep ensembles of variance networks",
    "costs": "what predictions cost, beside their quality",
    "mnist_moments": "one pass of moments in place of samples",
    "training_choices": "choices in training",
    "reinforcement_learning_sweep": "what REINFORCE depends on",
    "uci": "regression on seven data sets",
    "active_learning": "which images to label",
    "out_of_distribution_mnist": "images unlike those of training",
    "out_of_distribution_cifar10": "the same, on CIFAR-10",
    "architectures": "what works on which architecture",
}


def experiment_of(name, config):
    """The module that makes a result: some make several."""
    package = config.get("package", "examples.paper")
    module, *_ = config.get("command", name).split()
    return importlib.import_module(f"{package}.{module}")


def spent(config):
    """Epochs and seeds of a result."""
    if "epochs" not in config:
        return "", ""
    epochs = config["epochs"]
    epochs = sorted(set(epochs.values())) if isinstance(epochs, dict) else [epochs]
    return ", ".join(map(str, epochs)), str(len(config["seeds"]))


def lines(results):
    """Of the page, from the folder of the result files."""
    yield "# Results\n"
    yield "Figures and tables of Variance Networks (https://arxiv.org/abs/1803.03764)"
    yield "beside those of the experiments in"
    yield "[examples/paper](../../examples/paper). The paper trained for 200 epochs."
    yield "BatchNorm predicts with moving averages here; in the paper's code, with"
    yield "statistics of the test batch.\n"
    yield "| paper | there | here | epochs | seeds |"
    yield "|---|---|---|---|---|"
    differences = []
    for name in NAMES:
        written = json.loads((results / f"{name}.json").read_text())
        module = experiment_of(name, written["config"])
        row = module.compare(written["config"], written["results"])
        epochs, seeds = spent(written["config"])
        yield (
            f"| [{row.item}]({name}.md) | {row.paper} | {row.ours} | {epochs} "
            f"| {seeds} |"
        )
        if row.difference:
            differences.append(f"- {row.item.split(',')[0]}: {row.difference}")
    yield "\nWhere they differ:\n"
    yield from differences
    yield "\nBeyond the paper: " + ", ".join(
        f"[{title}]({name}.md)" for name, title in BEYOND.items()
    )
    yield "\nMade by `python -m examples.paper.overview`."


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=experiment.RESULTS)
    args = parser.parse_args(arguments)
    path = args.results / "README.md"
    path.write_text("\n".join(lines(args.results)) + "\n")
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
