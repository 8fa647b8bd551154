"""Members of the five families, and checks of numbers."""

import math
import numbers
import random

import keras
import numpy as np


class Member:
    """A member of a family: an object that Keras can serialize.

    Subclasses set their arguments in `__init__`, return them from `get_config`
    and are registered with `keras.saving.register_keras_serializable`.
    """

    family: str  # the layer argument that takes it, as "noise"

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config: dict):
        return cls(**config)

    def __repr__(self):
        arguments = (f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({', '.join(arguments)})"


def get(identifier, base: type[Member], members: dict[str, type[Member]]):
    """The member of a family that `identifier` stands for.

    Args:
        identifier: A name (`"gaussian"`), the dict that
            `keras.saving.serialize_keras_object` makes of a member, or a
            member, which is returned as it is.
        base: The family's base class.
        members: Name to class, for every member of the family.

    Raises:
        ValueError: If it is none of these.
    """
    member = identifier
    if isinstance(identifier, str) and identifier in members:
        member = members[identifier]()
    elif isinstance(identifier, dict):
        member = keras.saving.deserialize_keras_object(identifier)
    if isinstance(member, base):
        return member
    names = ", ".join(f"'{name}'" for name in members)
    raise ValueError(
        f"Argument `{base.family}` must be one of {names} or an instance of "
        f"`{base.__module__}.{base.__name__}`. Received: {base.family}={identifier!r}"
    )


def number(name: str, value, *, minimum=-math.inf, above=-math.inf):
    """`value` as a Python number, for a config.

    Raises:
        ValueError: If it is no finite number, or out of bounds.
    """
    value = value.item() if isinstance(value, np.generic) else value
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and value >= minimum and value > above:
        return value
    bounds = ((minimum, " ≥ "), (above, " > "))
    bound = "".join(f"{sign}{at}" for at, sign in bounds if at > -math.inf)
    raise ValueError(
        f"Argument `{name}` must be a finite number{bound}. Received: {name}={value!r}"
    )


def integer(name: str, value, *, minimum=-math.inf) -> int:
    """`value` as a Python integer.

    Raises:
        ValueError: If it is no integer, or below `minimum`.
    """
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if is_integer and value >= minimum:
        return int(value)
    bound = f" ≥ {minimum}" if minimum > -math.inf else ""
    raise ValueError(
        f"Argument `{name}` must be an integer{bound}. Received: {name}={value!r}"
    )


def seed(value: int | None) -> int:
    """A seed, which a random one stands for if it is None.

    Raises:
        ValueError: If it is no integer.
    """
    if value is None:
        return random.randrange(2**31)
    return integer("seed", value)
