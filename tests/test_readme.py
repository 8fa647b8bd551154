import re
from pathlib import Path

import pytest

from tests.backends import tensorflow_only

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "page", [pytest.param("README.md", marks=tensorflow_only), "docs/training.md"]
)
def test_code_blocks_run(page, tmp_path, monkeypatch):
    """The page's Python blocks run, one after the other, as one program."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)


@pytest.mark.parametrize(
    "page",
    ("README.md", "docs/training.md", "docs/distribution.md", "CONTRIBUTING.md"),
)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target
