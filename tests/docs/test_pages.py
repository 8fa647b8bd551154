import re

import pytest

from tests.backends import tensorflow_only
from tests.docs import pages

GUIDE = [
    "docs/index.md",
    "docs/migration.md",
    "docs/training.md",
    *(page for page in pages.pages("docs/guide") if pages.has_code(page)),
]
WRITTEN = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *pages.pages("docs", "docs/guide", "docs/tutorials", "docs/api"),
]
NEEDS_TENSORFLOW = ("docs/guide/serving.md",)
# What reads as translated, and what to write
PHRASES = {
    r"\bbehind\b": "after",
    r"\bin front of\b": "before",
    r"\b(nats|kernel|script|α|byte|ms|loss|[Bb]yte) an? \w+": "per",
    r"\b(training|test|data) rows\b|\brows of data\b": "examples",
    r"\brow by row\b|\ba row\b(?! in)": "per example",
    r"\b(told|tells?) [\w ]*apart\b|\btells the classes\b": "distinguish, separate",
    r"\bcan't be seen into\b": "cannot be inspected",
    r"\bgo(es)? on where\b": "resume",
    r"\bunread\b|\bleft out\b": "unused, removed",
    r"(^|[.:;|] )Where [^.?|]*, ": "if, when",
    r"\bof no account\b": "irrelevant",
    r"\bdoes as well\b|\bdo as well\b": "works equally well",
    r"\bsees to\b": "handles",
    r"\bat last\b": "finally",
    r"\bhardly\b": "little",
    r"\bgreat(er|est)?\b": "large, larger, largest",
    r"(?<!at )\bleast\b": "smallest",
    r"\bof another make\b": "from another implementation",
    r"\bFigures (are|in|of this)\b|\bfigures? in the doc": "numbers",
    r"\bdefence\b": "defense",
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=tensorflow_only if page in NEEDS_TENSORFLOW else ())
        for page in GUIDE
    ],
)
def test_code_runs(page, tmp_path, monkeypatch):
    """A page's blocks of Python run, one after the other, as one program."""
    monkeypatch.chdir(tmp_path)
    assert [*pages.run(page)]


@tensorflow_only
@pytest.mark.parametrize("page", pages.pages("docs/tutorials"))
def test_tutorials_print_what_they_say(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outputs = [*pages.run(page)]
    assert any(said for _, said in outputs)
    for printed, said in outputs:
        assert said is None or pages.agree(printed, said), f"{printed}\n{said}"


def test_outputs_are_compared():
    said = "20 samples: 96.7 %, 1,234 parameters"
    assert pages.agree("20  samples: 96.5 %, 1,230 parameters\n", said)
    assert pages.agree("0.4 nats", "0.5 nats")
    assert not pages.agree("0.3 nats", "0.5 nats")
    assert not pages.agree("20 samples: 66.7 %, 1,234 parameters", said)
    assert not pages.agree("20 examples: 96.7 %, 1,234 parameters", said)
    assert not pages.agree("20 samples: 96.7 %", said)


@pytest.mark.parametrize("page", WRITTEN)
def test_links_lead_somewhere(page):
    path = pages.ROOT / page
    for target in pages.LINK.findall(path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("page", WRITTEN)
def test_english_is_plain(page):
    """None of the phrases that `PHRASES` replaces, outside of code."""
    text = (pages.ROOT / page).read_text()
    text = re.sub(r"```.*?```|`[^`]*`|\$[^$]+\$", "…", text, flags=re.DOTALL)
    found = {
        match[0]: better
        for phrase, better in PHRASES.items()
        for match in re.finditer(phrase, text, flags=re.MULTILINE)
    }
    assert not found


def test_readme_is_short():
    lines = (pages.ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 130
