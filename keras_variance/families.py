"""Members of the families, and how they are found."""

from collections.abc import Mapping

import keras

from keras_variance import checks


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


def get(identifier, base: type[Member], members: Mapping[str, type[Member]]):
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
    names = ", ".join(f"'{name}'" for name in members)
    checks.require(
        isinstance(member, base),
        base.family,
        f"one of {names} or an instance of `{base.__module__}.{base.__name__}`",
        identifier,
    )
    return member
