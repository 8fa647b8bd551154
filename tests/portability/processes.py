"""Scripts in fresh processes, on any backend that is installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BACKENDS = ("tensorflow", "jax", "torch")


def interpreters():
    """A Python for each backend that there is one for.

    This one, for what it can import, and those of the environment variable
    `KERAS_VARIANCE_PYTHONS`, as in "jax=/envs/jax/bin/python:torch=…".
    """
    own = {each: sys.executable for each in BACKENDS if importlib.util.find_spec(each)}
    given = os.environ.get("KERAS_VARIANCE_PYTHONS", "").split(os.pathsep)
    return own | dict(each.split("=", 1) for each in given if each)


def start(python, backend, module, *arguments, **environment):
    """Start `python -m module arguments` on a backend."""
    return subprocess.Popen(
        [python, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(processes):
    """Wait for processes, all of them; AssertionError with what the first to fail
    has printed."""
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
