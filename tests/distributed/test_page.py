"""docs/distribution.md: its commands print what it says."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.portability.processes import ROOT, interpreters

pytestmark = pytest.mark.skipif(
    "jax" not in interpreters(),
    reason="no Python with JAX: see tests/portability/processes.py",
)
BLOCKS = re.findall(
    r"```\n(.*?)```", (ROOT / "docs/distribution.md").read_text(), flags=re.DOTALL
)


@pytest.mark.parametrize(
    "commands, printed", [*zip(BLOCKS[::2], BLOCKS[1::2], strict=True)]
)
def test_commands(commands, printed):
    """In any order: processes end when they do."""
    path = f"{Path(interpreters()['jax']).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", commands],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = re.findall("^process .*", done.stdout, flags=re.MULTILINE)
    assert sorted(lines) == sorted(printed.splitlines())
