"""Libraries of stochastic layers, by one protocol, each in an environment of its own.

    python -m benchmarks.peers.run [--environments DIR] [--peers NAME …]

makes the environments that are not there (each of one to two gigabytes), asks each
library the questions of `protocol.py`, on one core, and writes `docs/peers.json`,
`docs/peers.md` and `docs/peers.png`. A library that cannot be installed is in the
table, with the reason.
"""

import argparse
import json
import os
import platform
import subprocess
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
TORCH = "torch==2.13.*"  # the later PyTorch needs gigabytes of CUDA
OWN = str(ROOT)
# Name in the table: environment, packages, module and its arguments, backend of Keras
PEERS = {
    "keras_variance, zero mean": (
        "own",
        [OWN],
        "keras_variance zero_mean",
        "tensorflow",
    ),
    "keras_variance, additive": ("own", [OWN], "keras_variance", "tensorflow"),
    "keras_variance, additive (PyTorch)": (
        "own-torch",
        [TORCH, "keras", "numpy"],
        "keras_variance",
        "torch",
    ),
    "TensorFlow Probability": (
        "tfp",
        ["tensorflow", "tensorflow-probability[tf]"],
        "tfp_layers",
        "tensorflow",
    ),
    "keras-proba (PyTorch)": (
        "keras-proba",
        [TORCH, "keras", "keras-proba"],
        "keras_proba",
        "torch",
    ),
    "bayesian-torch": (
        "bayesian-torch",
        [TORCH, "bayesian-torch"],
        "bayesian_torch",
        "torch",
    ),
    "blitz": (
        "blitz-bayesian-pytorch",
        [TORCH, "blitz-bayesian-pytorch"],
        "blitz_bayesian",
        "torch",
    ),
    "torch-uncertainty": (
        "torch-uncertainty",
        [TORCH, "torch-uncertainty[cpu]"],
        "torch_uncertainty",
        "torch",
    ),
    "a loop over dropout": ("own", [OWN], "dropout_loop", "tensorflow"),
}


def environment(folder, packages):
    """The Python of an environment, made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", *packages]
        subprocess.run(command, check=True, capture_output=True, text=True)
    return python


def ask(folder, packages, module, backend):
    try:
        python = environment(folder, packages)
    except subprocess.CalledProcessError as error:
        return {"not_installed": error.stderr.strip().splitlines()[-1]}
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    quiet = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [python, "-m", "benchmarks.peers.protocol", *module.split()]
    answer = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **threads, **quiet, "PYTHONPATH": OWN},
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        return {"not_installed": answer.stderr.strip().splitlines()[-1]}
    return json.loads(answer.stdout.splitlines()[-1])


def cells(name, answer):
    """The row of a library."""
    if "not_installed" in answer:
        return [name, "", f"not run: {answer['not_installed']}"]

    def cell(question, show):
        given = answer[question]
        if "error" in given:
            return given["error"].split(":")[0]
        return "" if "missing" in given else show(given)

    def right(given):
        return "yes" if given["right"] else "**no**"

    def kl(given):
        ratio = given["ratio"]
        if abs(ratio * given["weights"] - 1) < 0.02:
            return "**the mean** over weights"
        return "yes" if abs(ratio - 1) < 0.02 else f"**{ratio:.3g} ×**"

    return [
        name,
        answer["versions"],
        cell("step", lambda given: f"{given['ratio']:.2f} ×"),
        cell("samples", lambda given: f"{given['ratio']:.1f} ×"),
        cell("samples", lambda given: f"{given['memory_mb']:,.0f}"),
        cell("moments", lambda given: f"{right(given)}, {given['noise']} noise"),
        cell("kl", kl),
        cell("half", right),
        cell("saving", right),
    ]


INTRODUCTION = """\
# Other libraries

What other libraries with stochastic layers cost, and whether their numbers are right,
by [one protocol](../benchmarks/peers/protocol.py): LeNet-5 on random images of 28×28,
its first dense layer stochastic, with Gaussian weights and a N(0, 1) prior. Times are
medians of processor time on {machine}, over those of the stock network in the same
framework: they say what noise costs there, not which framework is faster.

- Train step: batch 200, Adam, with the KL divergence.
- 20 samples: predictions for 1,000 images, in the way that each library's documentation
  shows: a loop of calls, or one call. Memory is what the process's peak grew by
  meanwhile, in MB.
- Moments: mean and variance of 4,000 draws of a layer's output, against the exact ones.
  Shared noise is one sample of the weights for a batch.
- KL: against the closed form, summed over weights; an average of 400 if a library draws
  it.

| library | version | train step | 20 samples | memory | moments | KL | half | file |
|---|---|---|---|---|---|---|---|---|"""
END = """
Empty: the library has no such thing, or the question does not apply. A library that
failed on the machine has the error.

Made by `python -m benchmarks.peers.run`; all numbers: [peers.json](peers.json)."""


def best(results):
    """Which of the libraries that learn means is best at what."""
    known = {
        name: each for name, each in results.items() if "z" in each.get("moments", {})
    }
    for subject, question, value, show in (
        ("the cheapest train step is that", "step", "ratio", "{:.2f} ×"),
        ("the cheapest 20 samples are those", "samples", "ratio", "{:.1f} ×"),
        ("the smallest memory is that", "samples", "memory_mb", "{:.0f} MB"),
    ):
        name = min(known, key=lambda name: known[name][question][value])
        yield f"{subject} of {name} ({show.format(known[name][question][value])})"


def plot(results, path):
    """Two bars for each library: a train step, and 20 samples."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    timed = {name: each for name, each in results.items() if "step" in each}
    figure, axes = plt.subplots(
        1, 2, figsize=(10, 4), sharey=True, layout="constrained"
    )
    for axis, question, title in zip(
        axes, ("step", "samples"), ("train step", "20 samples"), strict=True
    ):
        ratios = [each[question]["ratio"] for each in timed.values()]
        own = ["C0" if name.startswith("keras_variance") else "C7" for name in timed]
        bars = axis.barh([*timed], ratios, color=own)
        axis.bar_label(bars, [f"{ratio:.2f} ×" for ratio in ratios], padding=3)
        axis.set(title=title, xlabel="processor time over the stock network's")
        axis.margins(x=0.25)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def lines(written):
    yield INTRODUCTION.format(machine=written["machine"])
    results = {k: written["results"][k] for k in PEERS if k in written["results"]}
    for name, answer in results.items():
        row = cells(name, answer)
        yield "| " + " | ".join(row + [""] * (9 - len(row))) + " |"
    yield f"\nOf layers that learn means, {', '.join(best(results))}."
    yield "\n![Train step and 20 samples, by library](peers.png)"
    yield END


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", type=Path, default=ROOT / "build" / "peers")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[*PEERS])
    parser.add_argument("--table", action="store_true", help="write the page alone")
    args = parser.parse_args(arguments)
    path = ROOT / "docs" / "peers.json"
    written = json.loads(path.read_text()) if path.exists() else {"results": {}}
    written["machine"] = f"an {platform.machine()} CPU"
    for name in [] if args.table else args.peers:
        folder, packages, module, backend = PEERS[name]
        answer = ask(args.environments / folder, packages, module, backend)
        written["results"][name] = answer
        print(name, json.dumps(answer), flush=True)
        path.write_text(json.dumps(written, indent=1) + "\n")
    path.with_suffix(".md").write_text("\n".join(lines(written)) + "\n")
    plot(written["results"], path.with_suffix(".png"))


if __name__ == "__main__":
    main()
