"""Arguments of layers: numbers, and members of the four families."""

import math
import numbers

import keras


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


def number(name: str, value, minimum: float = -math.inf, *, positive: bool = False):
    """`value` as a finite Python number, for a config.

    Raises:
        ValueError: If it is none, is below `minimum`, or not above 0 if `positive`.
    """
    # NumPy's scalars are numbers, but not to JSON
    value = value.item() if hasattr(value, "item") else value
    valid = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if valid and math.isfinite(value) and value >= minimum:
        if value > 0 or not positive:
            return value
    if positive:
        kind = "a positive finite number"
    elif minimum > -math.inf:
        kind = f"a finite number of at least {minimum}"
    else:
        kind = "a finite number"
    raise ValueError(f"Argument `{name}` must be {kind}. Received: {name}={value!r}")
