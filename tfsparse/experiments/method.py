"""What a config needs to know about a method."""

import abc
from collections.abc import Callable
from typing import ClassVar

import keras
import pydantic

from tfsparse.experiments.sections import Section

_IN_EVERY_LABEL = ("sparsity", "skip_first", "skip_last")  # written elsewhere in tables


class Method(abc.ABC):
    """A way to train that a config can ask for. A file in `experiments/methods/` holds one.

    Attributes:
        name: Key of its section in the config.
        section_class: Class of its section; None for a method that is part of another section.
        description: What error messages say was expected for the section.
        combines: Whether it may be in one config with other methods that combine.
        optimizers: Optimizers that it adds to those of Keras, by their names in a config.
    """

    name: ClassVar[str]
    section_class: ClassVar[type[Section] | None] = None
    description: ClassVar[str] = ""
    combines: ClassVar[bool] = False
    optimizers: ClassVar[dict[str, type]] = {}

    @property
    def remove(self) -> str:
        """The override that removes the method from a config, as after `--set`."""
        return f"{self.name}=null"

    def section(self, config: Section) -> Section | None:
        """Return the section of a config that asks for the method, or None."""
        return getattr(config, self.name)

    @abc.abstractmethod
    def label(self, section: Section) -> str:
        """Return the name in tables and legends, with the options that are not the default."""

    def target_sparsity(self, section: Section) -> float | None:
        """Return the target sparsity, a fraction in [0, 1); None if the method itself decides how much is pruned."""
        return section.sparsity

    def convert(self, section: Section, model: keras.Model) -> keras.Model:
        """Return the model that is compiled; by default the same."""
        return model


class CallbackMethod(Method):
    """A method that is a callback of `model.fit`."""

    @abc.abstractmethod
    def callback(self, section: Section, validation, first_batch: Callable) -> keras.callbacks.Callback:
        """Create the callback.

        Args:
            section: The section of the config.
            validation: The validation data, or None if the callback is created only to check the section.
            first_batch: `number -> (x, y)`: the first batches of the first epoch as one, by default one; or None. They
                are the same when the training is resumed.

        Returns:
            The callback.
        """


class DriverMethod(Method):
    """A method that calls `model.fit` itself and keeps its own state in a directory."""

    @abc.abstractmethod
    def driver(self, config: Section, model: keras.Model, directory):
        """Create the object that trains.

        Args:
            config: The whole config.
            model: The compiled model.
            directory: Where the object keeps its state.

        Returns:
            An object with `fit`, as of a model, and `model`, `entries`, `resizes`, `stopped`, `seconds`.
        """


def label_with_options(name: str, options: pydantic.BaseModel) -> str:
    """Return the name, and in parentheses the options that are not the default."""
    defaults = {key: field.default for key, field in type(options).model_fields.items()}
    return with_options(name, [f"{k}={v}" for k, v in options if k not in _IN_EVERY_LABEL and v != defaults[k]])


def with_options(name: str, options: list[str]) -> str:
    """Return `name (option, option)`, or the name alone."""
    return f"{name} ({', '.join(options)})" if options else name
