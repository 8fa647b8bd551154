"""The public names, against those of the last commit that changed them.

    python -m tests.test_public_names

writes `public_names.txt` anew. What a change means is in `docs/release.md`.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path

import keras_variance

UNDOCUMENTED = {"MEMBERS", "__version__", "from_deterministic"}
PATH = Path(__file__).parent / "public_names.txt"


def public_names(module=keras_variance, path="keras_variance"):
    """Of a module and of the modules among its names, as a user writes them."""
    for name in sorted(names(module)):
        value = getattr(module, name)
        if inspect.ismodule(value):
            yield from public_names(value, f"{path}.{name}")
        else:
            yield f"{path}.{name}"


def names(module):
    """What a module lists, or else what it defines."""
    if hasattr(module, "__all__"):
        return module.__all__
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    ]


def test_public_names_are_those_committed():
    assert [*public_names()] == PATH.read_text().split()


def test_public_names_are_documented():
    """Each has an entry on a page of the API, under its own name or its home's."""
    folder = Path(__file__).parents[1] / "docs" / "api"
    pages = "".join(page.read_text() for page in folder.glob("*.md"))
    entries = {line.split(".")[-1] for line in pages.splitlines() if ":::" in line}
    missing = {each.split(".")[-1] for each in public_names()} - entries
    assert missing <= UNDOCUMENTED


def test_a_public_name_is_a_module_or_something_else_not_both():
    """Else `import package.name` gives the one, and `package.name` the other."""
    found = pkgutil.walk_packages(keras_variance.__path__, "keras_variance.")
    for info in found:
        package, _, name = info.name.rpartition(".")
        value = getattr(importlib.import_module(package), name, None)
        assert value is None or inspect.ismodule(value), info.name


if __name__ == "__main__":
    PATH.write_text("\n".join(public_names()) + "\n")
