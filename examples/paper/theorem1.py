"""How an ensemble's predictions change without means, by log α; theorem 1's bound.

    python -m examples.paper.theorem1 [--data-dir DIR] [--smoke]

Variance Networks, theorem 1: as α grows, predictions with weights from N(μ, αμ²) come
to those with weights from N(0, αμ²). For class probabilities p_α and p_∞ and D weights,

    Σ_c |p_α,c − p_∞,c| ≤ ∫ |N(μ, αμ²) − N(0, αμ²)| dw = 2 erf(√(D/8α)) ≤ √(2D/πα).

LeNet-5-Caffe, its first dense layer trained with one α. The layer's standard deviations
stay as trained, its means are scaled to have each α: at the trained one they are the
trained means.
"""

import math

import matplotlib
import numpy as np

import keras_variance as kv
from examples.paper import common, experiment, mnist_phase_transition

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "theorem1"
LOG_ALPHAS = np.linspace(-4, 28, 33)
SAMPLES, ROWS = 200, 2000
INFINITY = 80.0  # a log α at which adding a mean changes no bit


def predict(model, x, log_alpha, samples):
    """Class probabilities with means scaled so that the layer has this log α."""
    (layer,) = kv.layers.variance_layers(model)
    kernel, phi = layer.kernel.numpy(), layer.phi.numpy()
    layer.kernel.assign(kernel * np.exp((phi - log_alpha) / 2))
    layer.phi.assign(np.full_like(phi, log_alpha))
    # The same seed: the same noise for every α
    probabilities = common.sampled(model, x, samples)
    layer.kernel.assign(kernel)
    layer.phi.assign(phi)
    return probabilities


def run(args):
    data, test_data = common.load(args)
    options = data, test_data, args, args.seed, "log_uniform"
    model = mnist_phase_transition.train(*options)
    grid, samples = (LOG_ALPHAS[::16], 4) if args.smoke else (LOG_ALPHAS, SAMPLES)
    x = test_data[0][:ROWS]
    (layer,) = kv.layers.variance_layers(model)
    limit = predict(model, x, INFINITY, samples)
    rows = []
    for log_alpha in grid:
        change = np.abs(predict(model, x, log_alpha, samples) - limit).sum(axis=-1)
        rows.append([float(log_alpha), float(change.mean()), float(change.max())])
        print(f"log α = {log_alpha:g}: {rows[-1]}", flush=True)
    (trained,) = common.log_alphas(model)
    results = {
        "weights": math.prod(layer.kernel.shape),
        "trained_log_alpha": trained,
        "changes": rows,
    }
    plot(results, args.results / f"{NAME}.png")
    return results


def bounds(weights, log_alpha):
    """2 erf(√(D/8α)) and √(2D/πα)."""
    ratio = weights / math.exp(log_alpha)
    return 2 * math.erf(math.sqrt(ratio / 8)), math.sqrt(2 * ratio / math.pi)


def plot(results, path):
    log_alpha, mean, largest = np.transpose(results["changes"])
    exact, closed = np.transpose([bounds(results["weights"], a) for a in log_alpha])
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.plot(log_alpha, closed, "--", color="gray", label="√(2D/πα)")
    axes.plot(log_alpha, exact, color="black", label="2 erf(√(D/8α))")
    axes.plot(log_alpha, largest, "^-", markersize=4, label="measured, largest of rows")
    axes.plot(log_alpha, mean, "o-", markersize=4, label="measured, mean of rows")
    trained = results["trained_log_alpha"]
    axes.axvline(trained, color="tab:red", linestyle=":", label="as trained")
    axes.set(xlabel="log α", ylabel="change of class probabilities, Σ|Δp|")
    axes.set(yscale="log", ylim=(1e-6, 20))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    experiment.save(figure, path)


def table(config, results):
    yield "# Predictions without means\n"
    yield f"LeNet-5, the first dense layer with one α, {config['data']},"
    yield f"{config['epochs']} epochs, {results['weights']:,} weights, log α ="
    yield f"{results['trained_log_alpha']:.2f} after training. The means are scaled to"
    yield f"each α, the standard deviations kept. Change of {SAMPLES} samples' average,"
    yield f"Σ|Δp| over classes, when the means are dropped; {ROWS:,} rows, one seed.\n"
    yield "| log α | mean of rows | largest | bound 2 erf(√(D/8α)) | √(2D/πα) |"
    yield "|---|---|---|---|---|"
    for log_alpha, mean, largest in results["changes"][::2]:
        exact, closed = bounds(results["weights"], log_alpha)
        yield (
            f"| {log_alpha:g} | {mean:.2g} | {largest:.2g} | {exact:.2g} "
            f"| {closed:.2g} |"
        )
    yield f"\n![Change of predictions by log α]({NAME}.png)"


def compare(config, results):
    weights, rows = results["weights"], results["changes"]
    under = sum(mean <= bounds(weights, log_alpha)[0] for log_alpha, mean, _ in rows)
    trained = results["trained_log_alpha"]
    nearest, change, _ = min(rows, key=lambda row: abs(row[0] - trained))
    return experiment.Comparison(
        "Theorem 1, change of predictions without means",
        "→ 0, below √(2D/πα)",
        f"{change:.1g} at log α = {nearest:g}; below the bound at {under} of "
        f"{len(rows)} α",
    )


def main(arguments=None):
    experiment.main(
        NAME, __doc__, run, table, common.ALPHA_EPOCHS, seeds=1, arguments=arguments
    )


if __name__ == "__main__":
    main()
