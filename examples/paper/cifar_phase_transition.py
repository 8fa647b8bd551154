"""Variational dropout becomes a variance network as it trains, on CIFAR-10.

    python -m examples.paper.cifar_phase_transition [--data-dir DIR] [--smoke]

Variance Networks, figures 3 and 8: the VGG-like network whose last three convolutions
and first dense layer have means and one α per layer, under each prior: epoch by epoch
log α and the accuracies of the weights' means, of one sample, of 20 samples, and of one
sample without means.
"""

from examples.paper import cifar, common, experiment
from examples.paper.follow import PREDICTORS, followed, plot
from examples.paper.training import kept, log_path, read_log

NAME = "cifar_phase_transition"
# log α of a layer after training, in the paper's text
PAPER = {"conv5_1": "> 15", "conv5_2": "> 15", "conv5_3": "> 15", "dense1": "> 12"}


def run(args):
    data, test_data = cifar.load(args)

    def curves(prior, seed):
        made = cifar.recipe(cifar.VARIANCE, data, args, seed, prior=prior)

        def trained():
            cifar.trained(made, data, test_data, args)
            return followed(read_log(log_path(made, args.work)))

        return kept(made, args.work, "curves", trained)

    results = {
        prior: [curves(prior, seed) for seed in common.seeds(args)]
        for prior in args.priors
    }
    name = cifar.result_name(NAME, args.dataset, args.width)
    plot(columns(results), args.results / f"{name}.png")
    return results


def columns(results):
    """Of the picture."""
    return {
        cifar.PRIORS[prior]: (log, alphas(log)) for prior, (log, *_) in results.items()
    }


def alphas(log):
    """The names of layers in a log, and their log α by epoch."""
    prefix = "log_alpha_"
    return {k.removeprefix(prefix): x for k, x in log.items() if k.startswith(prefix)}


def table(config, results):
    first = next(iter(results.values()))[0]
    layers = list(alphas(first))
    yield "# Variational dropout becomes a variance network, on CIFAR\n"
    yield from cifar.setting(config)
    yield f"log α starts at {cifar.LOG_ALPHA:g}. As figures 3 and 8 of the paper:\n"
    picture = f"{cifar.result_name(NAME, config['dataset'], config['width'])}.png"
    yield f"![Accuracy and log α, epoch by epoch]({picture})\n"
    yield "After the last epoch, accuracies in percent:\n"
    yield "| prior | " + " | ".join(PREDICTORS.values()) + " |"
    yield "|---" * (1 + len(PREDICTORS)) + "|"
    for prior, (log, *_) in results.items():
        cells = (f"{log[f'{name}_accuracy'][-1]:.2f}" for name in PREDICTORS)
        yield f"| {cifar.PRIORS[prior]} | " + " | ".join(cells) + " |"
    yield "\nlog α after the last epoch:\n"
    yield "| prior | " + " | ".join(layers) + " |"
    yield "|---" * (1 + len(layers)) + "|"
    for prior, (log, *_) in results.items():
        cells = (f"{x[-1]:.1f}" for x in alphas(log).values())
        yield f"| {cifar.PRIORS[prior]} | " + " | ".join(cells) + " |"
    yield "| the paper, log-uniform | " + " | ".join(PAPER[x] for x in layers) + " |"


def compare(config, results):
    ours = []
    for prior, (log, *_) in results.items():
        mean, ensemble = (log[f"{x}_accuracy"][-1] for x in ("mean", "ensemble"))
        ours.append(f"{cifar.PRIORS[prior]} {mean:.2f}/{ensemble:.2f}")
    return experiment.Comparison(
        f"Figures 3 and 8 on {cifar.on(config)}, mean/20 samples, %",
        "mean at chance, ensemble as before",
        ", ".join(ours),
        cifar.DIFFERENCE.format(**config),
    )


def main(arguments=None):
    parser = cifar.parser(__doc__, 1)
    parser.add_argument(
        "--priors",
        nargs="+",
        choices=cifar.PRIORS,
        default=list(cifar.PRIORS),
        help="default: all",
    )
    cifar.main(NAME, parser, run, table, arguments)


if __name__ == "__main__":
    main()
