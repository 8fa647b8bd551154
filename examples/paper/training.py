"""Training that survives a kill at any moment: it resumes, and gives equal numbers.

A `Recipe` is everything that determines a trained model. `train` looks for the model
of a recipe in a folder, and trains it if there is none. Files in that folder are
complete or absent: each is written under a temporary name, then renamed.
"""

import csv
import dataclasses
import hashlib
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from examples.data import Batches

TIMES = ("seconds", "cpu_seconds")  # of an epoch, in the log
BACKUP_SHARE = 0.1  # of the time of training, at most
LOSS = partial(keras.losses.SparseCategoricalCrossentropy, from_logits=True)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that determines a trained model.

    Fields that make something are partial functions, named functions or classes: their
    names and arguments are part of the recipe.

    Attributes:
        name: Of the network, for files and tables.
        network: Makes the model.
        data: The shape of the training images and a checksum: see `described`.
        epochs: Integer.
        seed: Integer, for initial weights, batches and noise.
        batch_size: Integer.
        optimizer: Makes the optimizer from a learning rate.
        rate: The learning rate at first; it falls as rate · (1 − t)^power over
            training, t from 0 to 1.
        power: See `rate`.
        loss: Makes the loss.
        augment: Function that changes batches of images, or None.
        callbacks: Each makes a callback that changes training.
        precision: Keras's dtype policy.
    """

    name: str
    network: Callable
    data: str
    epochs: int
    seed: int
    batch_size: int
    optimizer: Callable = keras.optimizers.Adam
    rate: float = 1e-3
    power: float = 1.0
    loss: Callable = LOSS
    augment: Callable | None = None
    callbacks: tuple = ()
    precision: str = "float32"

    def config(self):
        """The recipe and the backend, as a dict for JSON."""
        fields = dataclasses.fields(self)
        config = {each.name: plain(getattr(self, each.name)) for each in fields}
        return {**config, "backend": keras.backend.backend()}

    @property
    def stem(self):
        """File name without suffix: readable, and unique to the recipe."""
        text = json.dumps(self.config(), sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.name}-seed{self.seed}-epochs{self.epochs}-{key}"

    def schedule(self, steps):
        """The learning rate by step; `steps` is their number per epoch."""
        return keras.optimizers.schedules.PolynomialDecay(
            self.rate, self.epochs * steps, 0.0, self.power
        )

    def compiled(self, steps):
        """A new model, ready to be trained with `steps` steps per epoch."""
        keras.utils.set_random_seed(self.seed)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.precision)
        try:
            model = self.network()
        finally:
            keras.config.set_dtype_policy(before)
        model.compile(
            self.optimizer(self.schedule(steps)), self.loss(), metrics=["accuracy"]
        )
        return model


def plain(value) -> Any:
    """A function, a Keras object or a model by its names and arguments, for JSON.

    Raises:
        ValueError: For a lambda, which has no name.
    """
    if isinstance(value, partial):
        arguments = {str(k): plain(x) for k, x in enumerate(value.args)}
        return {"make": plain(value.func), **arguments, **plain(value.keywords)}
    if isinstance(value, keras.Model):
        return f"model with weights {checksum(*value.get_weights())}"
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if hasattr(value, "__name__"):  # a class or a function
        if value.__name__ == "<lambda>":
            raise ValueError(
                "A recipe takes named functions and partial functions. "
                f"Received: {value}"
            )
        return value.__name__
    if hasattr(value, "get_config"):
        return {"make": type(value).__name__, **plain(value.get_config())}
    return value


def checksum(*arrays):
    """The checksum of arrays' contents, in hexadecimal."""
    total = 0
    for each in arrays:
        total = zlib.crc32(np.ascontiguousarray(each), total)
    return f"{total:08x}"


def described(data):
    """Training data in words, for a recipe: `(x, y)` of a data set."""
    x, y = data
    return f"{' × '.join(map(str, x.shape))}, checksum {checksum(x, y)}"


def train(recipe, data, work, test_data=None, callbacks=()):
    """The trained model of a recipe, from the work folder if it is there.

    Args:
        recipe: A `Recipe`.
        data: `(x, y)`.
        work: `Path` of a folder. It gets `{recipe.stem}.keras`, `.json` (what was
            trained, where, how long) and `.csv` (the log, epoch by epoch).
        test_data: `(x, y)` to evaluate after each epoch, for the log.
        callbacks: They watch training, and may write to its logs.
    """
    path = work / f"{recipe.stem}.keras"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        print(f"Training {recipe.stem}", flush=True)
        origin = {"device": device(), "commit": commit()}
        model = _fit(recipe, data, work, test_data, callbacks)
        report = {**recipe.config(), **origin, **_spent(recipe, work)}
        replace(path.with_suffix(".json"), _write_json(report))
        replace(path, model.save)
    shutil.rmtree(work / recipe.stem, ignore_errors=True)
    _note(path.with_suffix(".json"))
    # Loaded even where it was just trained, so that either gives the same numbers
    keras.utils.set_random_seed(recipe.seed)
    return keras.models.load_model(path)


def kept(recipe, work, name, make):
    """`make()`, a value for JSON, of a recipe: from the work folder if it is there.

    So processes may evaluate some models each, and a model that has been evaluated
    can be deleted. The recipe's report is noted.

    Args:
        recipe: A `Recipe` whose model `make` trains, or has trained.
        work: As for `train`.
        name: Of the value: it is kept in `{recipe.stem}.{name}.json`.
        make: Function without arguments.
    """
    value = remembered(work / f"{recipe.stem}.{name}.json", make)
    _note(work / f"{recipe.stem}.json")
    return value


def remembered(path, make):
    """`make()`, a value for JSON, from a file if it is there."""
    if not path.exists():
        replace(path, _write_json(make()))
    return json.loads(path.read_text())


def _fit(recipe, data, work, test_data, callbacks):
    batches = Batches(*data, recipe.batch_size, recipe.seed, recipe.augment)
    model = recipe.compiled(len(batches))
    backup = Backup(work / recipe.stem, BACKUP_SHARE)
    model.fit(
        batches,
        epochs=recipe.epochs,
        initial_epoch=backup.epoch,
        verbose=1 if sys.stdout.isatty() else 2,
        shuffle=False,  # the batches are; Keras would do so by Python's generator
        validation_data=test_data,
        validation_batch_size=500,
        callbacks=[
            Start(batches, recipe.seed),
            *(make() for make in recipe.callbacks),
            *callbacks,
            Log(log_path(recipe, work)),
            backup,  # last: others may make the variables that it restores
        ],
    )
    return model


def replace(path, write):
    """Make `write(temporary)` the file at `path`, in one step."""
    temporary = path.with_name(f"temporary-{path.name}")
    write(temporary)
    os.replace(temporary, path)


def _write_json(value):
    return lambda path: path.write_text(json.dumps(value, indent=2) + "\n")


class Start(keras.callbacks.Callback):
    """Makes the randomness of an epoch a function of the seed and the epoch."""

    def __init__(self, batches, seed):
        super().__init__()
        self.batches = batches
        self.seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.start(epoch)
        # What PyTorch's dropout draws from
        keras.utils.set_random_seed(self._seed(epoch))
        for index, layer in enumerate(self.model.layers):
            generator = getattr(layer, "seed_generator", None)
            if generator is not None:
                seed = self._seed(epoch, index)
                generator.state.assign(type(generator)(seed).state)

    def _seed(self, *numbers):
        sequence = np.random.SeedSequence((self.seed, *numbers))
        return int(sequence.generate_state(1)[0] >> 1)


class Log(keras.callbacks.Callback):
    """As `keras.callbacks.CSVLogger`, with one row per epoch after a resumption too.

    It adds the columns `seconds` and `cpu_seconds`. The latter, of all threads, do not
    grow where other programs run on the same processor cores.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        rows = [row for row in read_log(self.path) if int(row["epoch"]) < epoch]
        now = time.perf_counter(), time.process_time()
        times = zip(TIMES, self.began, now, strict=True)
        spent = {name: f"{end - began:.1f}" for name, began, end in times}
        rows.append({"epoch": epoch, **logs, **spent})
        replace(self.path, partial(_write_csv, rows))


def _write_csv(rows, path):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[-1]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def read_log(path):
    """The rows of a log, dicts of strings; none where there is no log."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def log_path(recipe, work):
    """Path of a recipe's log."""
    return work / f"{recipe.stem}.csv"


class Backup(keras.callbacks.Callback):
    """As `keras.callbacks.BackupAndRestore`, safe from a kill at any moment.

    That one writes the weights and the epoch into two files: killed in between, it
    repeats an epoch from weights that have seen it. Here each backup is one file, with
    its epoch and the checksum of its bytes in the name; the last two are kept.

    Args:
        folder: `Path`, for the backups of one training only.
        share: Of the time of training that backups may take, judged by the last one:
            0.1 skips epochs until nine tenths of the time went elsewhere. The first
            epoch is never skipped.
    """

    def __init__(self, folder, share=1.0):
        super().__init__()
        self.folder = folder
        self.share = share
        self.spent, self.ended = 0.0, -math.inf
        self.epoch, self.path = self._newest()

    def _newest(self):
        """The epoch to resume with, and the backup of those before it."""
        paths = sorted(self.folder.glob("epoch-*.weights.h5"), reverse=True)
        for path in paths:
            _, epoch, expected = path.name.split(".")[0].split("-")
            if file_checksum(path) == expected:
                return int(epoch), path
            warnings.warn(f"Backup {path} is broken, and ignored", stacklevel=3)
        if paths:
            warnings.warn(f"Training starts over: {self.folder}", stacklevel=3)
        return 0, None

    def on_train_begin(self, logs=None):
        if self.path:
            self.model.optimizer.build(self.model.trainable_variables)
            self.model.load_weights(self.path)

    def on_epoch_end(self, epoch, logs=None):
        began = time.monotonic()
        if (1 - self.share) * self.spent > self.share * (began - self.ended):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / "temporary.weights.h5"
        self.model.save_weights(temporary)
        name = f"epoch-{epoch + 1:05d}-{file_checksum(temporary)}.weights.h5"
        previous, self.path = self.path, self.folder / name
        os.replace(temporary, self.path)
        for each in self.folder.glob("epoch-*.weights.h5"):
            if each not in (previous, self.path):
                each.unlink()
        self.ended = time.monotonic()
        self.spent = self.ended - began


def file_checksum(path):
    """The checksum of a file, in hexadecimal."""
    return checksum(np.fromfile(path, "uint8"))


_notes = []


@contextmanager
def noted():
    """A list that collects the reports of the models trained or found in the block."""
    global _notes
    before, _notes = _notes, []
    try:
        yield _notes
    finally:
        _notes = before


def _note(path):
    report = json.loads(path.read_text())
    if report not in _notes:
        _notes.append(report)


def _spent(recipe, work):
    """Seconds of training, without those that interruptions cost."""
    rows = read_log(log_path(recipe, work))
    return {name: round(sum(float(row[name]) for row in rows), 1) for name in TIMES}


def device():
    """What trains, in words."""
    if keras.backend.backend() == "jax":
        import jax

        kind = jax.devices()[0].device_kind
    elif keras.backend.backend() == "torch":
        kind = keras.ops.zeros(()).device.type
    else:
        kind = keras.distribution.list_devices()[0].split(":")[0]
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    return f"{kind}, {platform.machine()}, {threads} threads"


def commit():
    """The code's commit, with a plus if files were changed; None outside of git."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always"]
    command += ["--dirty=+", "--exclude=*", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
