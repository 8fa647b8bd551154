"""Public functions, and what makes public objects, say what they take and return."""

import inspect

import pytest

import keras_variance
from tests.test_public_names import public_names


def resolve(name):
    value = keras_variance
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    return value


def callables():
    """(name, function) of public functions and of constructors."""
    for name in public_names():
        value = resolve(name)
        if inspect.isfunction(value):
            yield name, inspect.unwrap(value)
        elif inspect.isclass(value) and inspect.isfunction(vars(value).get("__init__")):
            yield f"{name}.__init__", vars(value)["__init__"]


@pytest.mark.parametrize(("name", "function"), [*callables()])
def test_every_argument_and_the_result_have_hints(name, function):
    signature = inspect.signature(function)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    without = [
        each.name
        for each in signature.parameters.values()
        if each.annotation is each.empty
        and each.kind not in variadic
        and each.name != "self"
    ]
    assert not without
    made = name.endswith(".__init__")
    assert made or signature.return_annotation is not signature.empty
