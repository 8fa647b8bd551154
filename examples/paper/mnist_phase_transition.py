"""Variational dropout becomes a variance network as it trains, on MNIST.

    python -m examples.paper.mnist_phase_transition [--data-dir DIR] [--smoke]

Variance Networks, figures 3 and 8: LeNet-5-Caffe, the first dense layer with mean and
one α, under each prior: epoch by epoch log α and the accuracies of the weights' means,
of one sample, of 20 samples, and of one sample without means.
"""

from examples.paper import common, experiment, training
from examples.paper.follow import PREDICTORS, Follow, followed, plot

NAME = "mnist_phase_transition"
PRIORS = {"log_uniform": "log-uniform", "student_t": "Student's t", "ard": "ARD"}


def recipe(data, args, seed, prior):
    return common.variational_dropout(data, args, seed, "layer_alpha", prior)


def train(data, test_data, args, seed, prior):
    """LeNet-5 with one α in its first dense layer, trained, and followed in a log."""
    made = recipe(data, args, seed, prior)
    return training.train(made, data, args.work, callbacks=[Follow(*test_data)])


def follow(data, test_data, args, seed, prior):
    """Epoch by epoch, what there is to see of one training: {name: values}."""
    train(data, test_data, args, seed, prior)
    log = training.log_path(recipe(data, args, seed, prior), args.work)
    return followed(training.read_log(log))


def table(config, results):
    yield "# Variational dropout becomes a variance network\n"
    yield f"LeNet-5, the first dense layer with one α, {config['data']}, seed"
    yield f"{config['seeds'][0]}, {config['epochs']} epochs; log α starts at"
    yield f"{common.LOG_ALPHA:g}. As figures 3 and 8 of the paper: the means stop"
    yield "mattering, then predictions with the means alone fall to chance; those of"
    yield "samples stay.\n"
    yield f"![Accuracy and log α, epoch by epoch]({NAME}.png)\n"
    yield "After the last epoch, accuracies in percent:\n"
    yield "| prior | log α | " + " | ".join(PREDICTORS.values()) + " |"
    yield "|---" * (2 + len(PREDICTORS)) + "|"
    for prior, (log, *_) in results.items():
        row = [f"{log[f'{name}_accuracy'][-1]:.2f}" for name in PREDICTORS]
        yield f"| {PRIORS[prior]} | {log['log_alpha'][-1]:.2f} | " + (
            " | ".join(row) + " |"
        )


def run(args):
    data, test_data = common.load(args)
    results = {
        prior: [
            follow(data, test_data, args, seed, prior) for seed in common.seeds(args)
        ]
        for prior in PRIORS
    }
    plot(columns(results), args.results / f"{NAME}.png")
    return results


def columns(results):
    """Of the picture."""
    return {
        PRIORS[prior]: (log, {"first dense layer": log["log_alpha"]})
        for prior, (log, *_) in results.items()
    }


def compare(config, results):
    ours = []
    for prior, (log, *_) in results.items():
        mean, ensemble = (log[f"{x}_accuracy"][-1] for x in ("mean", "ensemble"))
        ours.append(f"{PRIORS[prior]} {mean:.2f}/{ensemble:.2f}")
    return experiment.Comparison(
        "Figures 3 and 8, variational dropout: mean/20 samples, %",
        "mean at chance, ensemble as before",
        ", ".join(ours),
    )


def main(arguments=None):
    experiment.main(
        NAME, __doc__, run, table, common.ALPHA_EPOCHS, seeds=1, arguments=arguments
    )


if __name__ == "__main__":
    main()
