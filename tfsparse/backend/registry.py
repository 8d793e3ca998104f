"""Registries: what a user may write for a pruner, a schedule or a granularity, and which class it means.

`"one_cycle"` in a call, in a config file and in a saved model is the same class.
"""

import difflib
import inspect
import re
from collections.abc import Sequence

import keras


class Configurable:
    """Base of classes whose configuration is the arguments of their constructor, stored as attributes of these names.

    Two objects are equal if they have the same class and the same configuration.
    """

    def get_config(self) -> dict:
        """Return the arguments of the constructor. `from_config` accepts them."""
        return {name: getattr(self, name) for name in _argument_names(type(self))}

    @classmethod
    def from_config(cls, config: dict):
        """Create an object from what `get_config` returned. Lists become tuples, since JSON has no tuples."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()})

    def __eq__(self, other) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.get_config())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


class Registry:
    """Classes of one kind by their names in snake case.

    Args:
        kind: What the classes are called in error messages, such as "schedule".
        base: Their base class.

    Examples:
        >>> schedules = Registry("schedule", Schedule)
        >>> @schedules.register
        ... class OneCycle(Schedule): ...
        >>> schedules.get("one_cycle", alpha=14.0)
        OneCycle(alpha=14.0)
    """

    def __init__(self, kind: str, base: type):
        self.kind, self.base, self.classes = kind, base, {}

    def register(self, cls: type) -> type:
        """Register a class under its name, and for Keras's saving and loading as `tfsparse>ClassName`; a decorator."""
        self.classes[_snake_case(cls.__name__)] = cls
        return keras.saving.register_keras_serializable(package="tfsparse")(cls)

    def names(self) -> list[str]:
        """Return all registered names in alphabetical order."""
        return sorted(self.classes)

    def get(self, identifier, **options):
        """Return the object that a user's argument means.

        Args:
            identifier: An instance, which is returned as it is; a class; a registered name; `{"name": ..., **options}`;
                or the dict that Keras serialised an instance to.
            **options: Arguments of the class.

        Returns:
            An instance of the base class.

        Raises:
            ValueError: If the name is not registered, or if the class has no such option. The message offers the
                nearest name.
        """
        if isinstance(identifier, self.base):
            return identifier
        if isinstance(identifier, type) and issubclass(identifier, self.base):
            return self._create(identifier, options)
        if isinstance(identifier, dict) and "class_name" in identifier:
            return keras.saving.deserialize_keras_object(identifier)
        if isinstance(identifier, dict) and "name" in identifier:
            return self.get(**{"identifier" if k == "name" else k: v for k, v in {**identifier, **options}.items()})
        if isinstance(identifier, str) and _snake_case(identifier) in self.classes:
            return self._create(self.classes[_snake_case(identifier)], options)
        known = self.names()
        raise ValueError(
            f"Unknown {self.kind} {identifier!r}: expected one of {', '.join(known)}, or an instance of "
            f"{self.base.__name__}.{nearest(str(identifier), known)}"
        )

    def _create(self, cls, options):
        known = _argument_names(cls)
        unknown = [name for name in options if name not in known]
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no option {unknown[0]!r}; its options are {', '.join(known) or 'none'}."
                f"{nearest(unknown[0], known)}"
            )
        return cls(**options)


def check_choice(name: str, value, choices: Sequence):
    """Return `value` if it is one of `choices`.

    Raises:
        ValueError: If it is not. The message names the argument and the choices.
    """
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}.")
    return value


def nearest(name: str, known: list[str]) -> str:
    """Return " Did you mean 'x'?" with the known names that are similar to `name`, or an empty string."""
    close = difflib.get_close_matches(_snake_case(name), known, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def _argument_names(cls) -> list[str]:
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _snake_case(name: str) -> str:
    # a capital letter starts a word if a small letter follows: OneCycle is one_cycle, RigL is rigl
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).replace("-", "_").replace(" ", "_")
    return name.lower()
