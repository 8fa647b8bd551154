"""Exploration by random weights: REINFORCE on CartPole and Acrobot.

    python -m examples.paper.reinforcement_learning [--part K N] [--smoke]

Variance Networks, figure 6: three dense layers, the second one deterministic, with
parameter noise, or a variance layer; one sample of the weights per episode and its
gradient step. Episodes take the place of epochs.

Each run is kept in `--work` as soon as it ends. `--part 1 2` does the first half of
them, in one of two processes; without it, the runs that are there are not repeated.
"""

import matplotlib
import numpy as np

from examples.paper import common, experiment, policies
from examples.paper.policies import DETERMINISTIC, KINDS, NOISE, VARIANCE
from examples.paper.policy_runs import ACTED, LIMITS, SAMPLES, STATES, Run, kept

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "reinforcement_learning"
THRESHOLDS = {"CartPole-v1": 190, "Acrobot-v1": -100}  # of a mean over 100 episodes
EPISODES, SEEDS, LAST = 1000, 9, 100
RATES = {DETERMINISTIC: 1e-3, NOISE: 1e-3, VARIANCE: 2e-3}
BLOCK = 10  # episodes that a point of the picture averages


def runs(args):
    """The runs of the figure, seed by seed."""
    for seed in common.seeds(args):
        for environment in LIMITS:
            for policy in KINDS:
                episodes = args.epochs or EPISODES
                yield Run(environment, policy, seed, episodes, RATES[policy])


def collected(runs, work):
    """`summarized` results of the runs, one by one."""
    results = []
    for number, run in enumerate(runs, 1):
        results.append(summarized(kept(run, work)))
        final = results[-1]["final"]
        print(f"{number}/{len(runs)} {run.stem}: {final:.1f}", flush=True)
    return results


def summarized(result):
    """A result with its scores in blocks, its final score, and when it was good."""
    scores = np.array(result["scores"])
    size = min(BLOCK, len(scores))
    blocks = scores[: len(scores) // size * size].reshape(-1, size).mean(axis=1)
    reached = good(scores, THRESHOLDS[result["recipe"]["environment"]])
    final = scores[-LAST:].mean()
    return {**result, "scores": blocks.tolist(), "final": final, "reached": reached}


def good(scores, threshold):
    """After how many episodes the mean of the last 100 reaches a threshold, or None."""
    if len(scores) < LAST:
        return None
    means = np.convolve(scores, np.full(LAST, 1 / LAST), "valid")
    (reached,) = np.nonzero(means >= threshold)
    return int(reached[0]) + LAST if len(reached) else None


def run(args):
    part, parts = args.part
    results = collected(list(runs(args))[part - 1 :: parts], args.work)
    if parts == 1:
        plot(results, args.results / f"{NAME}.png")
    return results


def chosen(results, **fields):
    """Those results whose recipes have these values."""
    return [
        each
        for each in results
        if all(each["recipe"][key] == value for key, value in fields.items())
    ]


def plot(results, path):
    """Scores by episode, mean and quartiles over seeds; a panel per environment."""
    figure, axes = plt.subplots(1, len(LIMITS), figsize=(11, 4))
    for axis, environment in zip(axes, LIMITS, strict=True):
        for kind in KINDS:
            rows = chosen(results, environment=environment, policy=kind)
            scores = np.array([row["scores"] for row in rows])
            size = rows[0]["recipe"]["episodes"] / scores.shape[1]
            episodes = size * np.arange(1, scores.shape[1] + 1)
            (line,) = axis.plot(episodes, scores.mean(axis=0), label=kind)
            band = np.quantile(scores, (0.25, 0.75), axis=0)
            axis.fill_between(episodes, *band, color=line.get_color(), alpha=0.2)
        axis.axhline(THRESHOLDS[environment], color="black", lw=0.8, ls=":")
        axis.set(title=environment, xlabel="episode")
        axis.grid(alpha=0.3)
    axes[0].set(ylabel=f"score, mean of {BLOCK} episodes")
    axes[0].legend(loc="lower right")
    figure.tight_layout()
    experiment.save(figure, path)


def spread(values, digits=1):
    """Mean, and smallest to largest, in words."""
    low, high = min(values), max(values)
    return f"{np.mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(config, results):
    recipe = results[0]["recipe"]
    number = len(config["seeds"])
    rates = ", ".join(f"{rate:g} ({kind})" for kind, rate in config["rates"].items())
    yield "# Exploration by random weights\n"
    limits = " and ".join(f"{n} ({name})" for name, n in LIMITS.items())
    yield "As figure 6 of the paper: REINFORCE with Adam and three dense layers, 256"
    yield "units in each hidden one, of which the second is what a policy is named"
    yield "after. Weights are one sample for an episode and its gradient step"
    yield f"(`kv.random.held`). {number} seeds, {recipe['episodes']} episodes; the most"
    yield f"steps are {limits}.\n"
    yield f"![Scores by episode: mean and quartiles over seeds]({NAME}.png)\n"
    yield f"The final score is the mean of the last {LAST} episodes: its mean over"
    yield "seeds, and the lowest to the highest. A policy reaches a threshold when the"
    yield f"mean of {LAST} episodes does: for how many seeds, and in which episode, the"
    yield "median of these.\n"
    columns = "final score | threshold | reached | episode | CPU seconds"
    yield f"| environment | policy | {columns} |"
    yield "|---|---|---|---|---|---|---|"
    for environment in LIMITS:
        for kind in KINDS:
            rows = chosen(results, environment=environment, policy=kind)
            reached = [row["reached"] for row in rows if row["reached"] is not None]
            cells = (
                environment,
                kind,
                spread([row["final"] for row in rows]),
                THRESHOLDS[environment],
                f"{len(reached)} of {len(rows)}",
                f"{np.median(reached):.0f}" if reached else "",
                f"{np.mean([row['recipe']['cpu_seconds'] for row in rows]):.0f}",
            )
            yield f"| {' | '.join(map(str, cells))} |"
    yield "\nThe deterministic policy is the yardstick: the variance layer ends"
    yield f"{differences(results)}.\n"
    yield "The paper does not say how rewards become gradients, nor the rates. Here"
    yield f"Adam's rate is {rates},"
    yield "constant, and chosen by hand in about 60 trials, most of the variance layer"
    yield "and on seed 0, which favors it; the discount is"
    yield f"{recipe['discount']:g}, the weight of an entropy bonus"
    yield f"{recipe['entropy']:g} for each policy. Advantages are returns minus"
    yield "their running mean at that step, divided by their running rms. Parameter"
    yield f"noise starts at {policies.NOISE_SHARE:g}/√256. What of it matters is in"
    yield "[the sweep](reinforcement_learning_sweep.md).\n"
    yield "## How random the trained policies are\n"
    yield "Mutual information of action and weights, and entropy of the action, in"
    yield f"nats, averaged over {STATES} states of an episode ({SAMPLES} samples of the"
    yield f"weights); then the score of {ACTED} episodes after training, of fresh"
    yield "samples of the weights, and of one sample, drawn as a stock model"
    yield "(`kv.transforms.draw`).\n"
    columns = "first | middle | last | entropy, last | fresh samples | one draw"
    yield f"| environment | policy | information, {columns} |"
    yield "|---|---|---|---|---|---|---|---|"
    for environment in LIMITS:
        for kind in (NOISE, VARIANCE):
            rows = chosen(results, environment=environment, policy=kind)
            information = np.mean([row["information"] for row in rows], axis=0)
            middle = len(information) // 2
            cells = [f"{x:.3f}" for x in information[[0, middle, -1], 1]]
            cells.append(f"{information[-1, 2]:.3f}")
            for name in ("fresh", "draw"):
                cells.append(spread([np.mean(row["acted"][name]) for row in rows]))
            yield f"| {environment} | {kind} | {' | '.join(cells)} |"
    yield "\nParameter noise changes little of what its policy does, at any time. Of a"
    yield "variance layer the samples disagree more as the policy learns, and one draw"
    yield "may act worse or better than another: it has no mean to fall back on."


def final_scores(results):
    """Means over seeds: {environment: {policy: score}}."""
    return {
        environment: {
            kind: np.mean([row["final"] for row in chosen(rows, policy=kind)])
            for kind in KINDS
        }
        for environment in LIMITS
        for rows in [chosen(results, environment=environment)]
    }


def differences(results):
    """Of the variance layer's final scores to the deterministic ones, in words."""
    words = []
    for environment, means in final_scores(results).items():
        more = means[VARIANCE] - means[DETERMINISTIC]
        side = "above" if more >= 0 else "below"
        words.append(f"{abs(more):.1f} {side} it on {environment}")
    return " and ".join(words)


def compare(config, results):
    ours = [
        f"{environment}: " + ", ".join(f"{kind} {x:.1f}" for kind, x in means.items())
        for environment, means in final_scores(results).items()
    ]
    return experiment.Comparison(
        "Figure 6, REINFORCE, final score",
        "an efficient exploration tool",
        "; ".join(ours),
        "Each policy has an entropy bonus and a baseline per step. Beside the "
        f"deterministic one, the variance layer ends {differences(results)}.",
    )


def add_arguments(parser, seeds):
    parser.set_defaults(seeds=seeds)
    parser.add_argument("--part", type=int, nargs=2, default=(1, 1), metavar="N")
    return parser


def main(arguments=None):
    parser = add_arguments(experiment.parser(__doc__), SEEDS)
    args = experiment.parse(parser, arguments)
    if args.part[1] > 1:  # another process writes the results
        run(args)
        return
    experiment.execute(NAME, args, run, table, EPISODES, rates=RATES)


if __name__ == "__main__":
    main()
