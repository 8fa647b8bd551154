"""What the scores of `reinforcement_learning` depend on.

    python -m examples.paper.reinforcement_learning_sweep [--part K N] [--smoke]

Learning rate and initial scale, and no entropy bonus, for each policy, on fewer seeds.
"""

import numpy as np

from examples.paper import common, experiment
from examples.paper import reinforcement_learning as figure
from examples.paper.policies import DETERMINISTIC, KINDS, NOISE, VARIANCE
from examples.paper.policy_runs import LIMITS, Run

NAME = "reinforcement_learning_sweep"
RATES = (1e-3, 2e-3, 4e-3)
SCALES = {DETERMINISTIC: (1.0,), NOISE: (1.0,), VARIANCE: (0.3, 1.0, 3.0)}
SEEDS, EPISODES = 2, 1000


def settings():
    """What a `Run` has: scales and rates, then the usual ones without the bonus."""
    for kind in KINDS:
        for scale in SCALES[kind]:
            for rate in RATES:
                yield {"policy": kind, "scale": scale, "rate": rate}
        yield {"policy": kind, "rate": figure.RATES[kind], "entropy": 0.0}


def runs(args):
    chosen = list(settings())[:: 9 if args.smoke else 1]
    for seed in common.seeds(args):
        for environment in LIMITS:
            for each in chosen:
                episodes = args.epochs or EPISODES
                yield Run(environment, seed=seed, episodes=episodes, **each)


def run(args):
    part, parts = args.part
    results = figure.collected(list(runs(args))[part - 1 :: parts], args.work)
    keys = ("recipe", "final", "reached")
    return [{key: row[key] for key in keys} for row in results]


def table(config, results):
    recipes = [row["recipe"] for row in results]
    keys = ("policy", "scale", "entropy")
    lines = dict.fromkeys(tuple(recipe[key] for key in keys) for recipe in recipes)
    yield "# What REINFORCE with random weights depends on\n"
    yield "As [the experiment](reinforcement_learning.md), but for what a row says:"
    yield f"the mean score of the last {figure.LAST} of {recipes[0]['episodes']}"
    seeds = ", ".join(map(str, config["seeds"]))
    yield f"episodes, by Adam's rate. Seeds: {seeds}. The scale"
    yield "multiplies the initial standard deviation of the second layer's weights."
    for environment in LIMITS:
        yield f"\n## {environment}\n"
        columns = " | ".join(f"rate {rate:g}" for rate in RATES)
        yield f"| policy | scale | entropy bonus | {columns} |"
        yield "|---" * (3 + len(RATES)) + "|"
        for line in lines:
            fields = dict(zip(keys, line, strict=True))
            rows = figure.chosen(results, environment=environment, **fields)
            cells = [mean_score(figure.chosen(rows, rate=rate)) for rate in RATES]
            kind, scale, entropy = line
            yield f"| {kind} | {scale:g} | {entropy:g} | {' | '.join(cells)} |"
        kinds = dict.fromkeys(recipe["policy"] for recipe in recipes)
        best = (
            f"{kind} {best_score(results, environment, kind):.1f}" for kind in kinds
        )
        yield f"\nThe best of each: {', '.join(best)}."


def best_score(results, environment, kind):
    """The largest mean over seeds of a policy's settings."""
    rows = figure.chosen(results, environment=environment, policy=kind)
    scores = {}
    for row in rows:
        key = tuple(row["recipe"][each] for each in ("rate", "scale", "entropy"))
        scores.setdefault(key, []).append(row["final"])
    return max(map(np.mean, scores.values()))


def mean_score(rows):
    """In words; nothing if there are no rows."""
    return f"{np.mean([row['final'] for row in rows]):.1f}" if rows else ""


def main(arguments=None):
    parser = figure.add_arguments(experiment.parser(__doc__), SEEDS)
    args = experiment.parse(parser, arguments)
    if args.part[1] > 1:
        run(args)
        return
    command = experiment.command(NAME, parser, args)
    experiment.execute(NAME, args, run, table, EPISODES, command=command)


if __name__ == "__main__":
    main()
