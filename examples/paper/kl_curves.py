"""KL divergence of the Gaussian-dropout posterior from priors, by log α.

    python -m examples.paper.kl_curves [--smoke]

Variance Networks, figure 2: N(μ, αμ²) against the log-uniform prior, Student's
t-distribution with ν degrees of freedom and ARD. Lines are the package's, dots
numerical integrals of log q − log p. The KL from Student's t-distribution depends on
μ too (here 1), and on ν by a constant: these curves are moved to meet the log-uniform
one at α = 1.
"""

import itertools
import math

import keras
import matplotlib
import numpy as np
from scipy import integrate

import keras_variance as kv
from examples.paper import experiment

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "kl_curves"
DF = (0.01, 0.1, 0.5, 1.0)


def priors():
    """title: a prior."""
    students = {f"Student's t, ν = {df:g}": kv.priors.StudentT(df) for df in DF}
    return {
        "log-uniform": kv.priors.LogUniform(),
        **students,
        "ARD": kv.priors.ARD(),
    }


def curve(prior, log_alpha):
    """The package's KL for μ = 1."""
    phi = keras.ops.convert_to_tensor(log_alpha, "float32")
    kernel = keras.ops.ones_like(phi)
    kl = prior.kl(kv.posteriors.WeightAlpha(), kernel, phi, None)
    return keras.ops.convert_to_numpy(kl)


def integral(prior, log_alpha):
    """∫ q log(q/p) for μ = 1, up to the constants that `curve` has."""
    stddev = math.exp(log_alpha / 2)
    entropy = math.log(2 * math.pi * math.e) / 2 + math.log(stddev)

    def expectation(function):
        def integrand(z):
            density = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
            return function(1 + stddev * z) * density

        zero = -1 / stddev  # where w = 0: a singularity, or a peak
        breaks = [x for x in (-10, zero, 0, 10) if abs(x) <= 10]
        near = [zero + s * 10.0**k for k in range(-8, 1) for s in (-1, 1)]
        breaks = sorted({*breaks, *(x for x in near if abs(x) < 10)})
        pairs = itertools.pairwise(breaks)
        return sum(integrate.quad(integrand, a, b, limit=200)[0] for a, b in pairs)

    if isinstance(prior, kv.priors.StudentT):
        df = prior.df
        constant = math.lgamma(df / 2) + math.lgamma(0.5) - math.lgamma((df + 1) / 2)
        constant += math.log(df) / 2
        log = expectation(lambda w: math.log1p(w**2 / df))
        return (df + 1) / 2 * log + constant - entropy
    if isinstance(prior, kv.priors.ARD):
        variance = 1 + stddev**2
        square = expectation(lambda w: w**2)
        return (math.log(2 * math.pi * variance) + square / variance) / 2 - entropy
    limit = (np.euler_gamma + math.log(2)) / 2 + math.log(2 * math.pi * math.e) / 2
    return expectation(lambda w: math.log(abs(w) or 1e-300)) + limit - entropy


def plot(results, path):
    figure, axes = plt.subplots(figsize=(7, 4.5))
    meet = results["log-uniform"]["at_one"]
    for title, row in results.items():
        shift = meet - row["at_one"] if "Student" in title else 0
        (line,) = axes.plot(row["log_alpha"], np.add(row["kl"], shift), label=title)
        dots = np.add(row["integrals"], shift)
        axes.plot(row["dots"], dots, "o", color=line.get_color(), markersize=4)
    axes.set(xlabel="log α", ylabel="KL, nats", xlim=(-8, 8))
    axes.set_title("N(μ, αμ²) against priors; dots: numerical integrals")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    experiment.save(figure, path)


def table(config, results):
    yield "# KL divergence of the Gaussian-dropout posterior\n"
    yield "As figure 2 of the paper. The largest difference between the package's KL"
    yield "and a numerical integral, over log α from −8 to 8:\n"
    yield "| prior | difference, nats | KL at log α = −8 | 0 | 8 |"
    yield "|---|---|---|---|---|"
    for title, row in results.items():
        first, middle, last = (
            row["integrals"][k] for k in (0, len(row["dots"]) // 2, -1)
        )
        yield (
            f"| {title} | {row['difference']:.1e} | {first:.3f} | {middle:.3f} "
            f"| {last:.3f} |"
        )
    yield f"\n![KL by log α]({NAME}.png)\n"
    yield "The log-uniform KL is an approximation by three constants (Molchanov et al.,"
    yield "2017). Student's t-distribution comes to it as ν falls to 0; in the picture,"
    yield "its curves are moved, to meet the log-uniform one at α = 1."


def run(args):
    log_alpha = np.linspace(-8, 8, 161)
    dots = np.linspace(-8, 8, 5 if args.smoke else 33)
    results = {}
    for title, prior in priors().items():
        integrals = [integral(prior, each) for each in dots]
        results[title] = {
            "log_alpha": log_alpha.tolist(),
            "kl": curve(prior, log_alpha).tolist(),
            "at_one": float(curve(prior, [0.0])[0]),
            "dots": dots.tolist(),
            "integrals": integrals,
            "difference": float(np.abs(curve(prior, dots) - integrals).max()),
        }
    plot(results, args.results / f"{NAME}.png")
    return results


def compare(config, results):
    worst = max(row["difference"] for row in results.values())
    return experiment.Comparison(
        "Figure 2, KL divergences from three priors",
        "curves",
        f"the same, within {worst:.1g} nats of numerical integrals",
    )


def main(arguments=None):
    experiment.main(NAME, __doc__, run, table, arguments=arguments)


if __name__ == "__main__":
    main()
