"""The pages of the documentation, and what is in them.

    python -m tests.docs.pages docs/tutorials/*.md

runs pages and writes what their code prints into them.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A block of code, and the block after it, with what it prints
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def pages(*folders):
    """Paths of the pages in folders of the repository, as strings."""
    found = (path for folder in folders for path in ROOT.glob(f"{folder}/*.md"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def has_code(page):
    return bool(BLOCK.search((ROOT / page).read_text()))


def run(page):
    """Yield what each block of a page prints, and what the page says; None for that.

    The blocks are one program.
    """
    namespace = {"__name__": "__page__"}
    for code, said in BLOCK.findall((ROOT / page).read_text()):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page, "exec"), namespace)
        yield printed.getvalue(), said or None


def agree(printed, said, relative=0.1, absolute=0.02):
    """Whether texts are the same but for numbers that are close, or that differ by one
    in the last digit: another machine rounds otherwise."""
    texts = [" ".join(NUMBER.sub("#", text).split()) for text in (printed, said)]
    pairs = zip(numbers(printed), numbers(said), strict=False)
    close = all(
        abs(a - b) <= max(relative * abs(b), absolute, 1.001 * unit)
        for (a, _), (b, unit) in pairs
    )
    return texts[0] == texts[1] and close


def numbers(text):
    """Each number, and one in its last digit."""
    found = (Decimal(each.replace(",", "")) for each in NUMBER.findall(text))
    return [(float(x), 10.0 ** x.as_tuple().exponent) for x in found]


def record(page):
    """Write into a page what its code prints."""
    text = (ROOT / page).read_text()
    printed = iter([output for output, _ in run(page)])

    def block(match):
        output = next(printed)
        code = f"```python\n{match[1]}```\n"
        return f"{code}\n```text\n{output}```\n" if output and match[2] else code

    (ROOT / page).write_text(BLOCK.sub(block, text))


if __name__ == "__main__":
    names = [Path(each).resolve().relative_to(ROOT).as_posix() for each in sys.argv[1:]]
    os.chdir(tempfile.mkdtemp())
    for name in names:
        record(name)
