"""Deep ensembles of deterministic networks and of variance networks, on CIFAR.

    python -m examples.paper.cifar_ensembles [--data-dir DIR] [--smoke]

Five networks of either kind, trained from other starts: accuracy, negative
log-likelihood (NLL) and calibration error (ECE) of single networks and of their average
(Lakshminarayanan, Pritzel & Blundell, https://arxiv.org/abs/1612.01474), with what each
costs.
"""

from functools import partial

import numpy as np

from examples.paper import cifar, common

NAME = "cifar_ensembles"
SAMPLES = 20
NETWORKS = (cifar.DETERMINISTIC, cifar.VARIANCE)
COLUMNS = ("accuracy", "nll", "ece")
ROUNDS, TIMED = 5, 500  # of predictions that are timed, and images in each


def members(network, data, test_data, args):
    """The trained models, one for each seed."""
    recipes = [cifar.recipe(network, data, args, seed) for seed in common.seeds(args)]
    return [cifar.trained(made, data, test_data, args) for made in recipes]


def predict(network, model, x):
    """Class probabilities, of a variance network by samples."""
    if network == cifar.VARIANCE:
        return common.sampled(model, x, SAMPLES)
    return common.predicted(model, x)


def run(args):
    data, (x, y) = cifar.load(args)
    models = {each: members(each, data, (x, y), args) for each in NETWORKS}
    predictions = {
        network: partial(predict, network, model, x[:TIMED])
        for network, (model, *_) in models.items()
    }
    spent = common.seconds(predictions, ROUNDS)
    results = {}
    for network, each in models.items():
        p = [predict(network, model, x) for model in each]
        results[network] = {
            "members": [common.quality(member, y) for member in p],
            "ensemble": common.quality(np.mean(p, axis=0), y),
            "seconds": spent[network],
        }
    return results


def training_seconds(config, network):
    """Of the processor, for one network: the mean over seeds."""
    name = f"{config['dataset']}-{network}"
    spent = [each["cpu_seconds"] for each in config["recipes"] if name in each["name"]]
    return max(np.mean(spent), 0.1)  # what logs are rounded to, in a smoke run


def table(config, results):
    count = len(config["seeds"])
    yield f"# Deep ensembles on {config['data']}\n"
    yield from cifar.setting(config)
    yield f"Single networks (means over {count}), and the average of all {count}; the"
    yield f"variance networks by {SAMPLES} samples each. Accuracy in percent, NLL in"
    yield "nats per image. Training is processor time, with evaluations after each"
    yield f"epoch; prediction is of {TIMED} images. Both over one deterministic"
    yield "network's:\n"
    yield "| networks | accuracy | NLL | ECE | training | prediction |"
    yield "|---|---|---|---|---|---|"
    base = results[cifar.DETERMINISTIC]["seconds"]
    base_training = training_seconds(config, cifar.DETERMINISTIC)
    for network, row in results.items():
        training = training_seconds(config, network) / base_training
        prediction = row["seconds"] / base
        means = {
            column: np.mean([member[column] for member in row["members"]])
            for column in COLUMNS
        }
        for factor, quality in ((1, means), (count, row["ensemble"])):
            name = network if factor == 1 else f"{factor} × {network}"
            yield (
                f"| {name} | {quality['accuracy']:.2f} | {quality['nll']:.3f} "
                f"| {quality['ece']:.3f} | {factor * training:.2f} × "
                f"| {factor * prediction:.2f} × |"
            )


def main(arguments=None):
    cifar.main(NAME, cifar.parser(__doc__, 5), run, table, arguments)


if __name__ == "__main__":
    main()
