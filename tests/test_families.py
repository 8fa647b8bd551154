"""Members of the families are found again by what Keras saves of them."""

import keras
import pytest

import keras_variance as kv
from keras_variance.transforms.moments import heads

FAMILIES = (
    kv.noises,
    kv.posteriors,
    kv.priors,
    kv.estimators,
    kv.likelihoods,
    heads,
)
MEMBERS = [member for family in FAMILIES for member in family.MEMBERS.values()]


@pytest.mark.parametrize("member", MEMBERS)
def test_serialization(member):
    """Two classes of one name would replace each other in Keras's registry."""
    config = keras.saving.serialize_keras_object(member())
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is member
    assert restored.get_config() == member().get_config()


def test_registered_names_are_unique():
    names = [keras.saving.get_registered_name(member) for member in MEMBERS]
    assert len(set(names)) == len(names)
