import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_code_blocks_run(tmp_path, monkeypatch):
    """The README's Python blocks run, one after the other, as one program."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
