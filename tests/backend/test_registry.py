import keras
import pytest

from tfsparse import schedules
from tfsparse.backend.registry import Configurable, Registry, nearest


class Base(Configurable):
    pass


def test_the_configuration_is_the_arguments_of_the_constructor():
    registry = Registry("thing", Base)

    @registry.register
    class MyThing(Base):
        def __init__(self, size=(1, 2), name="x"):
            self.size, self.name = size, name

    thing = registry.get("my_thing", size=(3, 4))
    assert thing.get_config() == {"size": (3, 4), "name": "x"}
    assert MyThing.from_config({"size": [3, 4], "name": "x"}) == thing  # JSON makes lists of tuples
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(thing)) == thing
    assert registry.names() == ["my_thing"]
    assert thing != MyThing()


def test_nearest_offers_similar_names():
    assert nearest("liner", ["linear", "constant"]) == " Did you mean 'linear'?"
    assert nearest("zzz", ["linear"]) == ""


def test_an_instance_of_another_kind_is_an_error():
    with pytest.raises(ValueError, match="instance of Schedule"):
        schedules.get(Base())
