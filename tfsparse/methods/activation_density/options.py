"""The options of `ActivationDensity`. Its constructor, its docstring and the section of a config are made from them."""

import dataclasses
import inspect
import textwrap


def _option(default, expected: str, description: str, **limits):
    """Return a field with `expected`, which values it may have, `description`, and `least` or `choices` as metadata."""
    return dataclasses.field(default=default, metadata={"expected": expected, "description": description, **limits})


def _whole(default: int, description: str, least: int = 1):
    expected = f"a whole number of at least {least}, such as {default}"
    return _option(default, expected, description, least=least)


def _number(default: float, description: str):
    return _option(default, f"a number of at least 0, such as {default}", description, least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `ActivationDensity`, checked. The metadata of a field says what it means and what it may be.

    Raises:
        ValueError: If an option has another value than its `metadata["expected"]` says.
    """

    rounds: int = _whole(3, "Largest number of resizes.")
    weights: str = _option(
        "inherit",
        '"inherit" or "reinit"',
        "Whether channels that stay keep their weights, statistics and optimizer state (inherit), or a resize starts "
        "with fresh weights and a fresh optimizer (reinit).",
        choices=("inherit", "reinit"),
    )
    saturation: float = _number(0.01, "Range of the last densities of a layer below which the layer is saturated.")
    window: int = _whole(5, "Number of epochs over which that range is measured.")
    min_epochs: int = _whole(10, "Smallest number of epochs between two resizes, and after the last.")
    max_epochs: int | None = _option(
        None,
        "a whole number of at least min_epochs, such as 20",
        "Number of epochs after which a stage ends without saturation. None: epochs / (rounds + 1), so that there is "
        "time for all rounds.",
        least=1,
    )
    prune_epochs: tuple[int, ...] | None = _option(
        None,
        "rising numbers of epochs, such as [10, 20]",
        "Epochs, counted from 1, after which to resize, whatever the densities and rounds. None: when saturated.",
    )
    smallest: int = _whole(8, "Smallest width of a layer.")
    multiple: int = _whole(1, "Number of which widths are multiples.")
    tolerance: float = _number(0.02, "Difference of `monitor` beyond which a worse stage is undone.")
    monitor: str = _option(
        "val_accuracy",
        "the name of a metric",
        'Metric by which stages are compared. Higher is better, unless its name ends with "loss" or "error". If it is '
        "not measured, no stage is undone.",
    )
    examples: int = _whole(5000, "Number of examples on which densities are measured.")
    seed: int = _whole(0, "Seed of the order of arrays and of fresh weights.", least=0)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (_is_valid(value, field) or (value is None and field.default is None)):
                raise ValueError(f"{field.name}={value!r}: expected {field.metadata['expected']}.")
        if self.max_epochs is not None:
            check_whole("max_epochs", self.max_epochs, least=self.min_epochs)
        if self.prune_epochs is not None:
            object.__setattr__(self, "prune_epochs", tuple(self.prune_epochs))


def _is_valid(value, field) -> bool:
    limits = field.metadata
    if field.name == "prune_epochs":
        return isinstance(value, (list, tuple)) and bool(value) and _is_rising(list(value))
    if "choices" in limits:
        return value in limits["choices"]
    if "least" not in limits:
        return isinstance(value, field.type)
    number = (int, float) if field.type is float else int
    return isinstance(value, number) and not isinstance(value, bool) and value >= limits["least"]


def _is_rising(epochs):
    return all(type(e) is int and e > 0 for e in epochs) and epochs == sorted(set(epochs))


def check_whole(name: str, value, least: int = 1) -> None:
    """Check an argument.

    Raises:
        ValueError: If `value` is not a whole number of at least `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: expected a whole number of at least {least}, such as {name}={least}.")


def with_options(cls: type) -> type:
    """Put the options into the signature of a class, and into its docstring in place of `{options}`; a decorator."""
    fields = dataclasses.fields(Options)
    own = list(inspect.signature(cls).parameters.values())[:-1]  # without **options
    cls.__signature__ = inspect.Signature([*own, *inspect.signature(Options).parameters.values()])
    cls.__doc__ = (cls.__doc__ or "").replace(" " * 8 + "{options}", "\n".join(map(_row, fields)))
    return cls


def _row(field):
    expected = field.metadata["expected"]
    text = f"{field.name}: {field.metadata['description']} Expected: {expected}. Default: {field.default!r}."
    return textwrap.fill(text, 112, initial_indent=" " * 8, subsequent_indent=" " * 12)
