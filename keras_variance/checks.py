"""Checks of arguments, with one form of message:

    Argument `name` must be …. Received: name=value

Each returns its argument in the form that the package keeps and saves.
"""

import math
import numbers
import os
from collections.abc import Collection
from pathlib import Path

import keras
import numpy as np

SINGLE = float(np.finfo("float32").max)
BUILT = "built: give the model a `keras.Input`, or call it on data"


def require(met, name: str, expected: str, value) -> None:
    """Raise ValueError unless a condition of an argument is met."""
    if not met:
        raise ValueError(
            f"Argument `{name}` must be {expected}. Received: {name}={_shown(value)}"
        )


def number(name, value, *, minimum=-math.inf, above=-math.inf, below=math.inf):
    """`value` as a Python number that is finite in single precision."""
    number = _scalar(value)
    bounds = ((minimum, " ≥ "), (above, " > "), (below, " < "))
    bound = " and".join(f"{sign}{at}" for at, sign in bounds if math.isfinite(at))
    require(
        isinstance(number, numbers.Real)
        and not isinstance(number, bool)
        and abs(number) <= SINGLE
        and number >= minimum
        and number > above
        and number < below,
        name,
        f"a finite number{bound}",
        value,
    )
    return int(number) if isinstance(number, numbers.Integral) else float(number)


def integer(name, value, *, minimum=-(2**63), multiple=1) -> int:
    """`value` as a Python integer of 64 bits."""
    number = _scalar(value)
    bound = f" ≥ {minimum}" if minimum > -(2**63) else " of 64 bits"
    require(
        isinstance(number, numbers.Integral)
        and not isinstance(number, bool)
        and minimum <= number < 2**63
        and number % multiple == 0,
        name,
        f"an integer{bound}" + (f", a multiple of {multiple}" if multiple > 1 else ""),
        value,
    )
    return int(number)


def seed(value) -> int | None:
    """A seed, or None for a random one."""
    return None if value is None else fixed_seed(value)


def fixed_seed(value) -> int:
    """A seed: an integer that every backend takes."""
    number = _scalar(value)
    is_integer = isinstance(number, numbers.Integral) and not isinstance(number, bool)
    known = is_integer and 0 <= number < 2**31
    require(known, "seed", "an integer from 0 to 2³¹ - 1", value)
    return int(number)


def flag(name, value) -> bool:
    """`value` as a Python bool."""
    boolean = _scalar(value)
    require(isinstance(boolean, bool), name, "True or False", value)
    return boolean


def one_of(name, value, options):
    """A value that is one of some strings."""
    known = isinstance(value, str) and value in options
    require(known, name, f"one of {list(options)}", value)
    return value


def some_of(name, values, options):
    """A list, or another collection, of some of the strings."""
    several = isinstance(values, Collection) and not isinstance(values, str)
    several = several and len(values) > 0
    known = several and all(isinstance(x, str) and x in options for x in values)
    require(known, name, f"a list of some of {list(options)}", values)
    return values


def names(name, values):
    """A list or tuple of strings, one at least."""
    several = isinstance(values, list | tuple) and values
    known = several and all(isinstance(each, str) and each for each in values)
    require(known, name, "a list of names", values)
    return values


def path(name, value) -> Path:
    """A path of the file system."""
    known = isinstance(value, str | os.PathLike) and str(value)
    require(known, name, "a path", value)
    return Path(value)


def batch_size(value) -> int | None:
    """The number of examples in a step; None for Keras's default."""
    return None if value is None else integer("batch_size", value, minimum=1)


def verbose(value):
    """As Keras's `verbose`."""
    known = isinstance(value, str | int) and value in ("auto", 0, 1, 2)
    require(known, "verbose", "'auto', 0, 1 or 2", value)
    return value


BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def backend(what: str, needed, instead: str) -> None:
    """Refuse what some of Keras's backends alone can do where it runs on another."""
    received = keras.backend.backend()
    if received not in needed:
        names = " or ".join(BACKENDS[each] for each in needed)
        raise RuntimeError(
            f"{what} needs Keras on {names}: {instead}. "
            f"Received: KERAS_BACKEND={received}"
        )


def model(value):
    """A Keras model."""
    require(isinstance(value, keras.Model), "model", "a Keras model", value)
    return value


def built(name, value):
    """A model or layer that has its weights."""
    require(value.built, name, BUILT, value)
    return value


def _scalar(value):
    """The Python scalar in a NumPy scalar or array without axes."""
    is_numpy = isinstance(value, np.generic | np.ndarray) and value.ndim == 0
    return value.item() if is_numpy else value


def _shown(value):
    is_array = isinstance(value, np.ndarray) or keras.ops.is_tensor(value)
    return f"array of shape {tuple(value.shape)}" if is_array else repr(value)
