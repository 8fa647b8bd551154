"""Docstrings as Markdown: what reads well in `help` has to render well, too."""

import re

import griffe

EXAMPLE = re.compile(r"(^>>> .*?)(?=\n[ \t]*\n|\Z)", re.MULTILINE | re.DOTALL)
SHARED = re.compile(r"^    ([\w*]+(?:, [\w*]+)+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def markdown(docstring: str) -> str:
    """Doctests in fences, and a line for each of arguments that share one."""

    def lines(match):
        return "\n".join(f"    {name}: {match[2]}" for name in match[1].split(", "))

    fenced = EXAMPLE.sub("```pycon\n\\1\n```", docstring)
    return SHARED.sub(lines, fenced)


class Docstrings(griffe.Extension):
    """Of Griffe, which reads the docstrings for the site."""

    def on_instance(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
