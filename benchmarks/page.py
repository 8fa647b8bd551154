"""What the benchmarks print, as a page of the docs.

    python -m benchmarks.page [--only NAME …]

runs them in turn, each in a process of its own on one core, and writes
`docs/benchmarks.md`. With names, only those run, and what others printed stays.
"""

import argparse
import importlib
import inspect
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BENCHMARKS = (
    "layer_step",
    "layers",
    "ensemble",
    "predict",
    "moments",
    "evaluate",
    "integrate_last",
)
ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
INTRODUCTION = """\
# Benchmarks

What each benchmark printed on one core of an {machine} CPU. Ratios are between what was
timed in turn, in one process; times alone say little about another machine.
[Performance](performance.md) says what to expect and why.
"""


def output(name):
    """What a benchmark prints."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    environment = {**os.environ, **ONE_CORE}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def lines(written):
    yield INTRODUCTION.format(machine=written["machine"])
    for name in (each for each in BENCHMARKS if each in written["printed"]):
        module = importlib.import_module(f"benchmarks.{name}")
        title, command, *description = inspect.getdoc(module).split("\n\n")
        yield f"## {title.rstrip('.')}\n"
        yield "\n\n".join(description) + "\n"
        yield f"```text\n$ {command.strip().partition(' [')[0]}"
        yield f"{written['printed'][name]}\n```\n"
    yield "Made by `python -m benchmarks.page`."


def main(arguments=None, folder=ROOT / "docs"):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=BENCHMARKS, default=BENCHMARKS)
    names = parser.parse_args(arguments).only
    path = folder / "benchmarks.json"
    written = json.loads(path.read_text()) if path.exists() else {"printed": {}}
    written["machine"] = platform.machine()
    for name in names:
        written["printed"][name] = output(name)
        print(f"\n{name}\n\n{written['printed'][name]}", flush=True)
        path.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text("\n".join(lines(written)) + "\n")


if __name__ == "__main__":
    main()
