"""Exploration by random weights: REINFORCE on CartPole and Acrobot.

    python -m examples.paper.reinforcement_learning [--part K N] [--smoke]

Variance Networks, figure 6: three dense layers, the second one deterministic, with
parameter noise, or a variance layer; one sample of the weights per episode and its
gradient step. Episodes take the place of epochs.

Each run is kept in `--work` as soon as it ends. `--part 1 2` does the first half of
them, in one of two processes; without it, the runs that are there are not repeated.
"""

import dataclasses
import json
import time

import gymnasium
import keras
import matplotlib
import numpy as np

import keras_variance as kv
from examples.paper import common, experiment, policies, training
from examples.paper.policies import DETERMINISTIC, KINDS, NOISE, VARIANCE

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "reinforcement_learning"
LIMITS = {"CartPole-v1": 200, "Acrobot-v1": 500}  # steps of an episode
THRESHOLDS = {"CartPole-v1": 190, "Acrobot-v1": -100}  # of a mean over 100 episodes
EPISODES, SEEDS, LAST = 1000, 9, 100
RATES = {DETERMINISTIC: 1e-3, NOISE: 1e-3, VARIANCE: 2e-3}
SAMPLES = 20  # of the weights, for the mutual information
STATES = 200  # and states of the last episode that it is averaged over
POINTS = 10  # in training at which it is measured
ACTED = 20  # episodes by a drawn model, and by fresh samples, after training
BLOCK = 10  # episodes that a point of the picture averages


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that determines a trained policy.

    Attributes:
        environment: Of Gymnasium.
        policy: One of `policies.KINDS`.
        seed, episodes: Integers.
        rate: Adam's learning rate, constant.
        scale: See `policies.build`.
        entropy: The weight of the entropy bonus.
        discount: Of rewards.
    """

    environment: str
    policy: str
    seed: int
    episodes: int
    rate: float
    scale: float = 1.0
    entropy: float = 0.01
    discount: float = 0.99

    @property
    def stem(self):
        """File name without suffix."""
        parts = [f"{key}-{value}" for key, value in dataclasses.asdict(self).items()]
        return "_".join([*parts, keras.backend.backend()]).replace(" ", "-")


def kept(run, work):
    """What `result` returns, from the work folder if it is there."""
    path = work / f"{run.stem}.json"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        made = json.dumps(result(run))
        training.replace(path, lambda temporary: temporary.write_text(made))
    return json.loads(path.read_text())


def result(run):
    """The scores of a run by episode, and what its policy is like: a dict for JSON."""
    began = time.perf_counter(), time.process_time()
    origin = {"device": training.device(), "commit": training.commit()}
    keras.utils.set_random_seed(run.seed)
    random = np.random.default_rng(run.seed)
    limit = LIMITS[run.environment]
    environment = gymnasium.make(
        run.environment, max_episode_steps=limit, disable_env_checker=True
    )
    (observations,) = environment.observation_space.shape
    actions = int(environment.action_space.n)
    policy = policies.build(run.policy, observations, actions, run.scale)
    policy.compile(keras.optimizers.Adam(run.rate), policies.Reinforce(run.entropy))
    results = trained(policy, environment, limit, run, random)
    if run.policy != DETERMINISTIC:
        results["acted"] = acted(policy, environment, run, random)
    now = time.perf_counter(), time.process_time()
    times = zip(training.TIMES, began, now, strict=True)
    spent = {name: round(end - start, 1) for name, start, end in times}
    recipe = {**dataclasses.asdict(run), "backend": keras.backend.backend()}
    return {"recipe": {**recipe, **origin, **spent}, **results}


def trained(policy, environment, limit, run, random):
    """Scores by episode and, now and then, the policy's `uncertainty`."""
    baseline = policies.Baseline(limit)
    results = {"scores": [], "information": []}
    for episode in range(run.episodes):
        with policies.one_sample(policy):
            weights = policies.weights(policy)
            seen = policies.play(environment, weights, random, seed(run, episode))
            returns = policies.returns(seen.rewards, run.discount)
            policies.learn(policy, seen, baseline.advantages(returns), limit)
        results["scores"].append(float(seen.rewards.sum()))
        if run.policy != DETERMINISTIC and measured(episode, run.episodes):
            states = seen.states[random.integers(len(seen.states), size=STATES)]
            results["information"].append([episode + 1, *uncertainty(policy, states)])
    return results


def seed(run, episode):
    """Of the environment: each episode of each run has its own."""
    return 1_000_000 * run.seed + episode


def acted(policy, environment, run, random):
    """Scores after training: of one drawn stock model, and of fresh samples."""
    drawn = policies.weights(kv.transforms.draw(policy, seed=run.seed))
    scores = {"draw": [], "fresh": []}
    for episode in range(run.episodes, run.episodes + ACTED):
        for name, weights in ("draw", drawn), ("fresh", policies.weights(policy)):
            seen = policies.play(environment, weights, random, seed(run, episode))
            scores[name].append(float(seen.rewards.sum()))
    return scores


def measured(episode, episodes):
    """Whether the mutual information is measured after this episode."""
    return episode == 0 or (episode + 1) % -(-episodes // POINTS) == 0


def uncertainty(policy, states):
    """Mutual information and entropy of actions in nats, averaged over states."""
    prediction = kv.mc_predict(
        policy,
        states.astype("float32"),
        SAMPLES,
        STATES,
        likelihood=kv.likelihoods.Categorical(from_logits=True),
        verbose=0,
    )
    information, entropy = prediction.mutual_information, prediction.entropy
    return float(np.mean(information)), float(np.mean(entropy))


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
    """Scores by episode, mean and standard deviation over seeds; a panel for each
    environment."""
    figure, axes = plt.subplots(1, len(LIMITS), figsize=(11, 4))
    for axis, environment in zip(axes, LIMITS, strict=True):
        for kind in KINDS:
            rows = chosen(results, environment=environment, policy=kind)
            scores = np.array([row["scores"] for row in rows])
            mean, stddev = scores.mean(axis=0), scores.std(axis=0)
            size = rows[0]["recipe"]["episodes"] / scores.shape[1]
            episodes = size * np.arange(1, scores.shape[1] + 1)
            (line,) = axis.plot(episodes, mean, label=kind)
            band = mean - stddev, mean + stddev
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
    yield f"![Scores by episode: mean and standard deviation over seeds]({NAME}.png)\n"
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
    yield "\nThe paper does not say how rewards become gradients, nor the rates. Here"
    yield f"Adam's rate is {rates},"
    yield f"constant; the discount is {recipe['discount']:g}, the weight of an entropy"
    yield f"bonus {recipe['entropy']:g} for each policy. Advantages are returns minus"
    yield "their running mean at that step, divided by their running rms. Parameter"
    yield f"noise starts at {policies.NOISE_SHARE:g}/√256. What of it matters is in"
    yield "[the sweep](reinforcement_learning_sweep.md).\n"
    yield "## How random the trained policies are\n"
    yield "Mutual information of action and weights, and entropy of the action, in"
    yield f"nats, averaged over {STATES} states of an episode ({SAMPLES} samples of the"
    yield f"weights); then the score of {ACTED} episodes after training, of fresh"
    yield "samples of the weights, and of one sample, drawn as a stock model"
    yield "(`kv.transforms.draw`).\n"
    columns = "at first | at the end | entropy at the end | fresh samples | one draw"
    yield f"| environment | policy | mutual information {columns} |"
    yield "|---|---|---|---|---|---|---|"
    for environment in LIMITS:
        for kind in (NOISE, VARIANCE):
            rows = chosen(results, environment=environment, policy=kind)
            information = np.mean([row["information"] for row in rows], axis=0)
            cells = [f"{x:.3f}" for x in (*information[[0, -1], 1], information[-1, 2])]
            for name in ("fresh", "draw"):
                cells.append(spread([np.mean(row["acted"][name]) for row in rows]))
            yield f"| {environment} | {kind} | {' | '.join(cells)} |"


def compare(config, results):
    ours, behind = [], []
    for environment in LIMITS:
        means = {
            kind: np.mean(
                [
                    row["final"]
                    for row in chosen(results, environment=environment, policy=kind)
                ]
            )
            for kind in KINDS
        }
        numbers = ", ".join(f"{kind} {means[kind]:.1f}" for kind in KINDS)
        ours.append(f"{environment}: {numbers}")
        if means[VARIANCE] < means[DETERMINISTIC]:
            lost = means[DETERMINISTIC] - means[VARIANCE]
            behind.append(f"by {lost:.1f} on {environment}")
    difference = ""
    if behind:
        difference = (
            "The variance layer ends below the deterministic policy, "
            f"{' and '.join(behind)}: it learns more slowly, see the page."
        )
    return experiment.Comparison(
        "Figure 6, REINFORCE, final score",
        "a variance layer learns slowly, and ends best",
        "; ".join(ours),
        difference,
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
