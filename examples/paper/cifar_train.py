"""Train one network of the CIFAR experiments.

    python -m examples.paper.cifar_train dropout --seed 0 [--data-dir DIR] [--smoke]
    python -m examples.paper.cifar_train variance --prior ard --seed 0

The experiments train what they need by themselves, one network after another. With
this, several processes can do so before, one per processor core.
"""

from examples.paper import cifar, common

POSTERIORS = ("layer_alpha", "neuron_alpha", "weight_alpha", "zero_mean")


def main(arguments=None):
    parser = cifar.parser(__doc__, seeds=1)
    parser.add_argument("network", choices=cifar.NETWORKS)
    parser.add_argument("--prior", choices=cifar.PRIORS, default="log_uniform")
    parser.add_argument("--posterior", choices=POSTERIORS, default="layer_alpha")
    args = cifar.parse(parser, arguments)
    data, test_data = cifar.load(args)
    options = {}
    if args.network == cifar.VARIANCE:
        options = {"prior": args.prior, "posterior": args.posterior}
    for seed in common.seeds(args):
        made = cifar.recipe(args.network, data, args, seed, **options)
        cifar.trained(made, data, test_data, args)


if __name__ == "__main__":
    main()
