"""Exploration by random weights: REINFORCE on CartPole and Acrobot.

    python -m examples.paper.reinforcement_learning [--sweep] [--smoke]

Variance Networks, figure 6: three dense layers, the second one deterministic, with
parameter noise, or a variance layer, and one sample of the weights per episode and
its gradient step. `--sweep` tries learning rates, initial scales and no entropy bonus
on fewer seeds. Episodes take the place of epochs: `--epochs` says how many.

Each run is kept in `--work` as soon as it ends: another process may do a part of them,
`--part 1 2` the second of two, before one without `--part` writes results.
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
from matplotlib import pyplot as plt  # noqa

NAME, SWEEP = "reinforcement_learning", "reinforcement_learning_sweep"
LIMITS = {"CartPole-v1": 200, "Acrobot-v1": 500}  # steps of an episode
THRESHOLDS = {"CartPole-v1": 190, "Acrobot-v1": -100}  # of a mean over 100 episodes
EPISODES, SEEDS, LAST = 1000, 9, 100
RATES = {DETERMINISTIC: 1e-3, NOISE: 1e-3, VARIANCE: 2e-3}
SAMPLES = 20  # of the weights, for the mutual information
STATES = 200  # and states of the last episode that it is averaged over
POINTS = 10  # in training at which it is measured
ACTED = 20  # episodes by a drawn model, and by fresh samples, after training
# What the sweep varies, one policy at a time
SWEPT = {DETERMINISTIC: (1.0,), NOISE: (1.0,), VARIANCE: (0.3, 1.0, 3.0)}
SWEPT_RATES = (5e-4, 2e-3, 4e-3)


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
    """The runs of the figure, or of the sweep."""
    episodes = args.epochs or EPISODES
    for seed in common.seeds(args):
        for environment in LIMITS:
            for policy in KINDS:
                run = Run(environment, policy, seed, episodes, RATES[policy])
                yield from variants(run) if args.sweep else [run]


def variants(run):
    """Of a run, in the sweep."""
    for scale in SWEPT[run.policy]:
        for rate in SWEPT_RATES:
            yield dataclasses.replace(run, rate=rate, scale=scale)
    yield dataclasses.replace(run, entropy=0.0)


def run(args):
    results = []
    part, parts = args.part
    for run in list(runs(args))[part - 1 :: parts]:
        results.append(kept(run, args.work))
        score = np.mean(results[-1]["scores"][-LAST:])
        print(f"{run.stem}: {score:.1f}", flush=True)
    return results


def main(arguments=None):
    parser = experiment.parser(__doc__)
    parser.set_defaults(seeds=None)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--part", type=int, nargs=2, default=(1, 1))
    args = experiment.parse(parser, arguments)
    args.seeds = args.seeds or (2 if args.sweep else SEEDS)
    if args.part[1] > 1:
        run(args)


if __name__ == "__main__":
    main()
