"""Names for the parts a user chooses: `"one_cycle"` in a call, a config or a saved file is one and the same class."""

import difflib
import inspect
import re

import keras


class Configurable:
    """A part whose constructor arguments are its attributes and its whole configuration."""

    def get_config(self) -> dict:
        """The constructor's arguments; `from_config` takes them back."""
        return {name: getattr(self, name) for name in _options(type(self))}

    @classmethod
    def from_config(cls, config: dict):
        """The reverse of `get_config`."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()})

    def __eq__(self, other) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.get_config())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


class Registry:
    """Classes of one kind by their snake_case names; `get` accepts what a user may write for one of them."""

    def __init__(self, kind: str, base: type):
        self.kind, self.base, self.classes = kind, base, {}

    def register(self, cls: type) -> type:
        """Class decorator: known here by name, and to Keras when it saves and loads."""
        self.classes[_snake(cls.__name__)] = cls
        return keras.saving.register_keras_serializable(package="tfsparse")(cls)

    def names(self) -> list[str]:
        """All registered names."""
        return sorted(self.classes)

    def get(self, identifier, **options):
        """An instance from an instance, a class, a name, `{"name": ..., options}` or Keras's serialised form.

        Raises: ValueError for an unknown name (the nearest are offered) or unknown options.
        """
        if isinstance(identifier, self.base):
            return identifier
        if isinstance(identifier, type) and issubclass(identifier, self.base):
            return self._make(identifier, options)
        if isinstance(identifier, dict) and "class_name" in identifier:
            return keras.saving.deserialize_keras_object(identifier)
        if isinstance(identifier, dict) and "name" in identifier:
            return self.get(**{"identifier" if k == "name" else k: v for k, v in {**identifier, **options}.items()})
        if isinstance(identifier, str) and _snake(identifier) in self.classes:
            return self._make(self.classes[_snake(identifier)], options)
        raise ValueError(self._unknown(identifier))

    def _make(self, cls, options):
        known = _options(cls)
        unknown = [name for name in options if name not in known]
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no option {unknown[0]!r}; its options are {', '.join(known) or 'none'}."
                f"{nearest(unknown[0], known)}"
            )
        return cls(**options)

    def _unknown(self, identifier) -> str:
        known = self.names()
        return (
            f"Unknown {self.kind} {identifier!r}: expected one of {', '.join(known)}, or an instance of "
            f"{self.base.__name__}.{nearest(str(identifier), known)}"
        )


def _options(cls) -> list[str]:
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def nearest(name: str, known: list[str]) -> str:
    """" Did you mean 'x'?" for the known names close to this one, or nothing."""
    close = difflib.get_close_matches(_snake(name), known, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def _snake(name: str) -> str:
    # a capital begins a word if a small letter follows: OneCycle is one_cycle, RigL is rigl
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).replace("-", "_").replace(" ", "_")
    return name.lower()
