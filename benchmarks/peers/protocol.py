"""What is asked of a library of stochastic layers, in an environment of its own.

    python -m benchmarks.peers.protocol PEER

prints the answers as JSON. `python -m benchmarks.peers.run` asks all of them.
"""

import importlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BATCH, IMAGES, SAMPLES = 200, 1000, 20
REPEATS, DRAWS = 20, 4000
ESTIMATES = 400  # of a KL divergence
INPUTS, UNITS = 30, 40
# Of the layer that is checked, and of the prior
STDDEV, PRIOR_STDDEV = 0.3, 1.0
# False alarms of 240 z-scores: 2e-5
LARGEST_Z = 5.5


class Peer:
    """A library. What it cannot do raises NotImplementedError, with the reason."""

    versions = ""

    def step(self, stochastic: bool):
        """A function that trains LeNet-5 on `images(BATCH)` once, by Adam. Its first
        dense layer has Gaussian weights and a N(0, 1) prior, or is stock."""
        raise NotImplementedError

    def predict(self, samples: int):
        """A function that returns (samples, IMAGES, 10), in the way that the library's
        documentation shows; for 0 samples, one pass of the stock network."""
        raise NotImplementedError

    def draws(self, x, mean, number: int):
        """(number, batch, UNITS): outputs of a layer with weights N(mean, STDDEV²)."""
        raise NotImplementedError

    def kl(self, mean):
        """The KL divergence of that layer from N(0, 1), as the library computes it."""
        raise NotImplementedError

    def half(self, x, mean):
        """Outputs of that layer in half precision, an array of it."""
        raise NotImplementedError

    def reloaded(self, folder: Path):
        """Means of a network's layer, and those after it was saved and loaded."""
        raise NotImplementedError


def images(number):
    rng = np.random.default_rng(0)
    x = rng.random((number, 28, 28, 1), dtype="float32")
    return x, rng.integers(0, 10, number)


def layer_case():
    """Inputs and means of the layer that is checked."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, INPUTS)).astype("float32")
    return x, rng.normal(0, 0.2, (INPUTS, UNITS)).astype("float32")


def medians(functions, repeats=REPEATS):
    """Processor seconds of each function, timed in turn."""
    for function in functions:
        function(), function()
    times = [[] for _ in functions]
    for _ in range(repeats):
        for function, own in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            own.append(time.process_time() - start)
    return [float(np.median(own)) for own in times]


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step(peer):
    stock, stochastic = medians([peer.step(False), peer.step(True)])
    return {"stock_ms": 1e3 * stock, "ratio": stochastic / stock}


def samples(peer):
    before = megabytes()
    one, many = medians([peer.predict(0), peer.predict(SAMPLES)], repeats=7)
    shape = np.shape(peer.predict(SAMPLES)())
    assert shape in ((SAMPLES, IMAGES, 10), (IMAGES, SAMPLES, 10)), shape
    return {"one_ms": 1e3 * one, "ratio": many / one, "memory_mb": megabytes() - before}


def moments(peer):
    """Largest z-scores of means and variances, and correlation between examples."""
    x, mean = layer_case()
    y = np.asarray(peer.draws(x, mean, DRAWS), "float64")
    expected, variance = x @ mean, np.square(x) @ np.full_like(mean, STDDEV**2)
    z_mean = (y.mean(0) - expected) / np.sqrt(variance / DRAWS)
    z_variance = (y.var(0, ddof=1) / variance - 1) / np.sqrt(2 / (DRAWS - 1))
    noise = y - y.mean(0)
    shared = np.mean(noise[:, 0] * noise[:, 1]) / np.sqrt(
        np.mean(noise[:, 0] ** 2) * np.mean(noise[:, 1] ** 2)
    )
    truth = x[0] @ x[1] / np.sqrt(x[0] @ x[0] * (x[1] @ x[1]))  # with shared weights
    largest = float(max(np.abs(z_mean).max(), np.abs(z_variance).max()))
    return {
        "z": largest,
        "right": largest < LARGEST_Z,
        "noise": "shared" if abs(shared) > abs(truth) / 2 else "independent",
    }


def kl(peer):
    """The library's KL divergence over the closed form's."""
    _, mean = layer_case()
    square = np.square(mean.astype("float64"))
    ratio = STDDEV / PRIOR_STDDEV
    truth = (square / PRIOR_STDDEV**2 + ratio**2 - 1) / 2 - np.log(ratio)
    return {"ratio": float(peer.kl(mean)) / float(truth.sum()), "weights": mean.size}


def half(peer):
    y = np.asarray(peer.half(*layer_case()))
    return {"right": y.dtype.itemsize == 2 and bool(np.isfinite(y).all())}


def saving(peer):
    with tempfile.TemporaryDirectory() as folder:
        before, after = peer.reloaded(Path(folder))
    return {"right": bool(np.array_equal(before, after))}


def ask(peer):
    answers = {"versions": peer.versions}
    for question in (step, samples, moments, kl, half, saving):
        try:
            answers[question.__name__] = question(peer)
        except NotImplementedError as reason:
            answers[question.__name__] = {"missing": str(reason)}
        except Exception as error:  # it is an answer
            text = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            answers[question.__name__] = {"error": text}
    return answers


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    module = importlib.import_module(f"benchmarks.peers.{name}")
    print(json.dumps(ask(module.peer(*arguments))))
