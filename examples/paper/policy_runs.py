"""Runs of REINFORCE: each is trained once, and kept as soon as it ends."""

import dataclasses
import json
import time

import gymnasium
import keras
import numpy as np

import keras_variance as kv
from examples.paper import policies, training
from examples.paper.policies import DETERMINISTIC

LIMITS = {"CartPole-v1": 200, "Acrobot-v1": 500}  # steps of an episode
SAMPLES = 20  # of the weights, for the mutual information
STATES = 200  # and states of the last episode that it is averaged over
POINTS = 10  # in training at which it is measured
ACTED = 20  # episodes by a drawn model, and by fresh samples, after training


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
