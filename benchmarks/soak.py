"""A bounded run of everything, while processes that write the same files are killed.

    python -m benchmarks.soak [--minutes 10] [--seed 0]

One process trains, predicts, prunes, exports and serves a small model, round after
round. Beside it one child trains with backups and resumes, another one exports. Both
are killed (SIGKILL) at moments of a random plan, which the seed repeats. After each
kill all that the child had reported must be there, and its last backup or export must
load and predict. What a killed export has half-written must go with the next one.

Prints the numbers of operations, kills, faults and losses, and the growth of memory
over the rounds (Linux only). Ends with status 1 for a fault, a loss or a growth of
20 MB or more.
"""

import argparse
import collections
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_variance as kv
from examples.paper.training import Backup
from keras_variance.serving.versions import ABANDONED, TEMPORARY

EXAMPLES, FEATURES, CLASSES = 256, 8, 3
BATCH_SIZE = 64
STEPS = EXAMPLES // BATCH_SIZE
SAMPLES = 3
REQUESTS = 100  # to a served model in a round
GROWTH = 20  # MB
# Rounds whose memory is not compared yet, and rounds whose median is
WARM_UP, MEDIAN = 5, 5


def network():
    model = keras.Sequential(
        [
            keras.Input((FEATURES,), name="x"),
            kv.VarianceDense(
                32, posterior="additive", prior="log_uniform", train_size=EXAMPLES
            ),
            keras.layers.ReLU(),
            kv.VarianceDense(32),
            keras.layers.ReLU(),
            keras.layers.Dense(CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    return model


def examples(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(EXAMPLES, FEATURES)).astype("float32")
    return x, np.argmax(x @ rng.normal(size=(FEATURES, CLASSES)), axis=-1)


class Lost(Exception):
    """Something that was written whole is gone, or cannot be used."""


def check(condition, message):
    if not condition:
        raise Lost(message)


def check_probabilities(p, rows):
    p = np.asarray(p)
    good = p.shape == (rows, CLASSES) and np.allclose(p.sum(axis=-1), 1, atol=1e-4)
    check(good, f"predictions of shape {p.shape}, from {p.min()} to {p.max()}")


# ------------------------------------------------------------------ the main process


class Rounds:
    """What a user's process does, round after round."""

    def __init__(self, folder, rng):
        self.folder, self.rng = folder, rng
        self.model, (self.x, self.y) = network(), examples(0)
        self.counts = collections.Counter()
        self.memory = []

    def run(self):
        for operation in (self.train, self.predict, self.prune, self.export):
            operation()
            self.counts[operation.__name__] += 1
        keras.backend.clear_session()  # as for any loop that makes models
        gc.collect()
        self.memory.append(allocated())

    def train(self):
        history = self.model.fit(self.x, self.y, BATCH_SIZE, verbose=0).history
        check(np.isfinite(history["loss"]).all(), f"a loss of {history['loss']}")

    def predict(self):
        prediction = kv.mc_predict(self.model, self.x, SAMPLES, verbose=0)
        check_probabilities(prediction.mean, EXAMPLES)

    def prune(self):
        """Saved, loaded, pruned and shrunk: the same predictions."""
        path = self.folder / "model.keras"
        self.model.save(path)
        pruned = keras.models.load_model(path)
        kv.prune(pruned, float(self.rng.uniform(0, 0.9)), granularity="unit")
        small = kv.transforms.shrink(pruned)
        one, other = (
            kv.moment_predict(each, self.x, likelihood=None, verbose=0).mean
            for each in (pruned, small)
        )
        check(np.allclose(one, other, atol=1e-4), "shrink changed the predictions")

    def export(self):
        folder = kv.export(self.model, self.folder / "rounds", SAMPLES)
        self.serve(folder)
        keep_newest(folder.parent)

    def serve(self, folder, requests=REQUESTS):
        served = tf.saved_model.load(str(folder))
        predict = served.signatures["serving_default"]
        for _ in range(requests):
            x = self.x[: self.rng.integers(1, EXAMPLES)]
            check_probabilities(predict(x=tf.constant(x))["mean"], len(x))
            self.counts["serve"] += 1


def allocated():
    """Memory of this process in MB, without the files that it maps."""
    status = Path("/proc/self/status").read_text()
    parts = re.findall(r"(?:RssAnon|VmSwap):\s*(\d+) kB", status)
    return sum(map(int, parts)) / 1024


def growth(memory):
    """From the first rounds after those that warm up to the last ones, in MB."""
    memory = memory[WARM_UP:] or memory[-1:]
    return float(np.median(memory[-MEDIAN:]) - np.median(memory[:MEDIAN]))


def keep_newest(folder):
    """Remove all versions but the newest, as whoever serves them would."""
    versions = sorted(int(each.name) for each in folder.glob("[0-9]*"))
    for version in versions[:-1]:
        shutil.rmtree(folder / str(version))


# ---------------------------------------------------------------------- the children


class Child:
    """A process that writes into a folder until it is killed, and logs what is there.

    Args:
        folder: `Path`, in which each child goes on where the last one was killed.
    """

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        self.folder, self.log = folder, folder.with_suffix(".log")
        self.errors = folder.with_suffix(".errors")
        command = [sys.executable, "-m", "benchmarks.soak", "--child", self.name]
        with self.log.open("w") as log, self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, str(folder)], stdout=log, stderr=errors
            )

    def reported(self):
        """The numbers in whole lines of the log."""
        return [int(line) for line in self.log.read_text().split("\n")[:-1]]

    def check_alive(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"A child has ended:\n{self.errors.read_text()}")

    def kill(self):
        self.check_alive()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Trainer(Child):
    """Reports the epochs that it has a backup of, the first one at its start."""

    name = "train"

    @staticmethod
    def main(folder):
        backup = Backup(folder)
        print(backup.epoch, flush=True)
        report = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: print(epoch + 1, flush=True)
        )
        network().fit(
            *examples(0),
            BATCH_SIZE,
            epochs=sys.maxsize,
            initial_epoch=backup.epoch,
            callbacks=[backup, report],
            verbose=0,
        )

    def interrupted(self):
        """Whether it was killed while it wrote."""
        return (self.folder / "temporary.weights.h5").exists()

    def verify(self, rounds, before):
        """The number of its last epoch; `before` is that of the child before it."""
        first, *_, last = self.reported()
        check(first >= before, f"resumed at epoch {first}, after {before}")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a broken backup
            backup = Backup(self.folder)
        check(backup.epoch >= last, f"a backup of epoch {backup.epoch}, not {last}")
        backup.set_model(rounds.model)
        backup.on_train_begin()
        steps = int(rounds.model.optimizer.iterations)
        check(steps == STEPS * backup.epoch, f"{steps} steps in {backup.epoch} epochs")
        rounds.predict()
        (self.folder / "temporary.weights.h5").unlink(missing_ok=True)
        return backup.epoch


class Exporter(Child):
    """Reports the versions that it has written."""

    name = "export"

    @staticmethod
    def main(folder):
        model = network()
        while True:
            print(kv.export(model, folder, SAMPLES).name, flush=True)

    def interrupted(self):
        return any(self.folder.glob(f"{TEMPORARY}*"))

    def verify(self, rounds, before):
        """The number of its last version."""
        versions = {int(each.name) for each in self.folder.glob("[0-9]*")}
        missing = {*self.reported()} - versions
        check(not missing, f"versions {sorted(missing)} are gone")
        check(max(versions) > before, f"version {max(versions)} after {before}")
        left = list(self.folder.glob(f"{TEMPORARY}*"))
        check(len(left) <= 1, f"{len(left)} killed exports have left something")
        rounds.serve(self.folder / str(max(versions)), requests=1)
        keep_newest(self.folder)
        for each in left:  # the next child finds it old
            for path in (each, *each.rglob("*")):
                os.utime(path, times=(0, time.time() - 2 * ABANDONED))
        return max(versions)


CHILDREN = {each.name: each for each in (Trainer, Exporter)}


# --------------------------------------------------------------------------- the run


class Soak:
    """Rounds, and children that are killed beside them."""

    def __init__(self, folder, seed):
        rounds, plan = np.random.default_rng(seed).spawn(2)
        self.folder, self.plan = folder, plan
        self.rounds = Rounds(folder, rounds)
        self.last = dict.fromkeys(CHILDREN, 0)
        self.kills = collections.Counter()
        self.faults, self.losses = [], []

    def attempt(self, function, *arguments):
        """Call a function; note what goes wrong, and go on."""
        try:
            return function(*arguments)
        except Lost:
            self.losses.append(traceback.format_exc())
        except Exception:
            self.faults.append(traceback.format_exc())

    def cycle(self):
        """Children begin, and are killed at a moment each when they have written."""
        children = [each(self.folder / name) for name, each in CHILDREN.items()]
        moments = self.plan.uniform(0, 1, len(children))
        try:
            while not all(len(each.reported()) > 1 for each in children):
                for each in children:
                    each.check_alive()
                self.attempt(self.rounds.run)
            for child, seconds in zip(children, moments, strict=True):
                time.sleep(seconds)
                child.kill()
                self.kills[child.name] += 1
                self.kills["interrupted"] += child.interrupted()
        finally:
            for each in children:
                each.process.kill()
                each.process.wait()
        for each in children:
            last = self.attempt(each.verify, self.rounds, self.last[each.name])
            self.last[each.name] = last or self.last[each.name]

    def report(self):
        counts, kills, memory = self.rounds.counts, self.kills, self.rounds.memory
        words = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        print(f"{'operations':<12}{counts.total():,}: {words}")
        of = ", ".join(f"{name} {kills[name]}" for name in CHILDREN)
        amid = f"{kills['interrupted']} while writing"
        print(f"{'kills':<12}{sum(kills[name] for name in CHILDREN)}: {of}; {amid}")
        print(f"{'written':<12}{self.last['train']:,} epochs with a backup, ", end="")
        print(f"{self.last['export']:,} versions, by the children")
        print(f"{'faults':<12}{len(self.faults)}")
        print(f"{'losses':<12}{len(self.losses)}")
        print(
            f"{'memory':<12}{growth(memory):+.1f} MB in {len(memory)} rounds, ", end=""
        )
        print(f"at {memory[-1]:.0f} MB")
        for each in (*self.faults, *self.losses):
            print(f"\n{each}")

    def passed(self):
        return not (self.faults or self.losses) and growth(self.rounds.memory) < GROWTH


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="default: 10")
    parser.add_argument("--seed", type=int, default=0, help="of the plan; default: 0")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    keras.utils.set_random_seed(args.seed)
    if args.child:
        name, folder = args.child
        CHILDREN[name].main(Path(folder))

    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), args.seed)
        while not soak.kills or time.monotonic() < begin + 60 * args.minutes:
            soak.attempt(soak.cycle)
    minutes = (time.monotonic() - begin) / 60
    print(f"Keras {keras.__version__}, TensorFlow {tf.__version__}, seed {args.seed}")
    print(f"{'minutes':<12}{minutes:.1f}")
    soak.report()
    return soak


if __name__ == "__main__":
    sys.exit(not main().passed())
