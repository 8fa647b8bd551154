"""One α for a layer, a neuron or a weight, by the ELBO, on CIFAR.

    python -m examples.paper.cifar_parameterizations [--data-dir DIR] [--smoke]

Variance Networks, section 5: the VGG-like network whose last three convolutions and
first dense layer are trained for the ELBO under the log-uniform prior. The ELBO is
that of the training data.
"""

import numpy as np

import keras_variance as kv
from examples.paper import cifar, common, experiment
from examples.paper.follow import log_alphas, split
from examples.paper.training import kept

NAME = "cifar_parameterizations"
SAMPLES = 1  # of the ELBO: an average over 50,000 rows as it is
PAPER = {"layer_alpha": -116.2, "neuron_alpha": -233.4, "weight_alpha": -1453.7}


def evaluate(model, data, test_data):
    """The ELBO and its terms, the quality of predictions, and log α by layer."""
    prefix, suffix = split(model)  # the layers without noise run once
    (x, y), (x_test, y_test) = (
        (prefix.predict(x, 500, verbose=0), y) for x, y in (data, test_data)
    )
    options = {"likelihood": "categorical", "batch_size": 500, "seed": 0, "verbose": 0}
    return {
        **kv.elbo(suffix, x, y, samples=SAMPLES, **options)._asdict(),
        "mean": common.quality(common.by_means(suffix, x_test), y_test),
        "averaged": common.quality(common.sampled(suffix, x_test, 20), y_test),
        "log_alpha": log_alphas(model),
    }


def run(args):
    data, test_data = cifar.load(args)

    def row(posterior, seed):
        made = cifar.recipe(cifar.VARIANCE, data, args, seed, posterior=posterior)

        def evaluated():
            model = cifar.trained(made, data, test_data, args)
            return evaluate(model, data, test_data)

        return kept(made, args.work, "elbo", evaluated)

    return {
        posterior: [row(posterior, seed) for seed in common.seeds(args)]
        for posterior in PAPER
    }


def mean_of(rows, *keys):
    """Over seeds, of a figure in each row."""
    for key in keys:
        rows = [row[key] for row in rows]
    return float(np.mean(rows))


def table(config, results):
    yield f"# Parameterizations by ELBO, {config['data']}\n"
    yield from cifar.setting(config)
    yield "Nats over the training data, accuracy in percent; in brackets, the paper's"
    yield "ELBO:\n"
    yield "| one α a | ELBO | data term | KL | means | 20 samples | median log α |"
    yield "|---" * 7 + "|"
    for posterior, rows in results.items():
        bound, data, kl = (mean_of(rows, key) for key in kv.ELBO._fields)
        alphas = (mean_of(rows, "log_alpha", key) for key in rows[0]["log_alpha"])
        yield (
            f"| {posterior.removesuffix('_alpha')} | {bound:,.1f} ({PAPER[posterior]}) "
            f"| {data:,.1f} | {kl:,.1f} | {mean_of(rows, 'mean', 'accuracy'):.2f} "
            f"| {mean_of(rows, 'averaged', 'accuracy'):.2f} "
            f"| {', '.join(f'{each:.1f}' for each in alphas)} |"
        )
    names = results["layer_alpha"][0]["log_alpha"]
    layers = ", ".join(each.removeprefix("log_alpha_") for each in names)
    yield f"\nlog α by layer: {layers}.\n"
    yield from _order(results)


def _order(results):
    """What the order of the bounds comes from."""
    kl, data = (
        {posterior: mean_of(rows, term) for posterior, rows in results.items()}
        for term in ("kl", "data_term")
    )
    by_kl, by_data = sorted(kl, key=kl.get), sorted(data, key=data.get, reverse=True)
    ratio = min(-data[posterior] / kl[posterior] for posterior in results)
    same = "the paper's order" if by_kl == [*PAPER] else "not the paper's order"
    yield f"From small to large, KL divergences are those of {_words(by_kl)}: {same}."
    yield f"The best data term is that of {_words(by_data)}, in this order. It is at"
    yield f"least {ratio:.0f} times the KL divergence, and decides here; the paper's"
    yield "networks, whose bounds are far larger, fit their data."


def _words(posteriors):
    return ", ".join(each.removesuffix("_alpha") for each in posteriors)


def compare(config, results):
    def words(values):
        return ", ".join(f"{k.removesuffix('_alpha')} {v}" for k, v in values.items())

    ours = {key: f"{mean_of(rows, 'elbo'):.1f}" for key, rows in results.items()}
    return experiment.Comparison(
        f"Section 5 on {config['data']}, ELBO of parameterizations, nats",
        words(PAPER),
        words(ours),
        cifar.DIFFERENCE.format(**config),
    )


def main(arguments=None):
    cifar.main(NAME, cifar.parser(__doc__, 1), run, table, arguments)


if __name__ == "__main__":
    main()
