"""When a training by activation density resizes, goes back, or leaves the widths alone; decided by its record alone."""

import dataclasses
import math

from tfsparse.methods.activation_density import rules


@dataclasses.dataclass(frozen=True)
class Plan:
    """The arguments of `ActivationDensity` that decide; see there.

    `entries` are those of `Record.epochs` and `position` is `Record.position`.

    Raises: ValueError or TypeError for arguments that mean nothing.
    """

    rounds: int
    saturation: float
    window: int
    min_epochs: int
    max_epochs: int | None
    prune_epochs: tuple[int, ...] | None
    smallest: int
    multiple: int
    tolerance: float
    monitor: str
    weights: str
    seed: int

    def __post_init__(self):
        for name in ("rounds", "window", "min_epochs", "smallest", "multiple"):
            check_whole(name, getattr(self, name))
        if self.max_epochs is not None:
            check_whole("max_epochs", self.max_epochs, least=self.min_epochs)
        check_whole("seed", self.seed, least=0)
        if self.weights not in ("inherit", "reinit"):
            raise ValueError(f'weights={self.weights!r}: expected weights="inherit" or weights="reinit".')
        for name in ("saturation", "tolerance"):
            _fraction(name, getattr(self, name))
        if self.prune_epochs is not None:
            object.__setattr__(self, "prune_epochs", _rising(self.prune_epochs))

    def check_epochs(self, first: int, epochs: int) -> None:
        """Refuse planned epochs that this training does not have."""
        outside = [e for e in self.prune_epochs or () if not first < e < epochs]
        if outside:
            raise ValueError(
                f"prune_epochs={list(self.prune_epochs)}: after epoch {outside[0]} nothing can be resized in "
                f"a training from epoch {first} to {epochs}. Expected numbers above {first} and below epochs={epochs}: "
                f"ActivationDensity(model, prune_epochs=[{max(first + 1, (first + epochs) // 2)}])."
            )

    def due(self, entries: list[dict], position: dict, left: int) -> bool:
        """Is a resize to be considered now, with so many epochs left?"""
        since = entries[position["since"] :]
        if position["stopped"] or not since or not left:
            return False
        if self.prune_epochs is not None:
            return entries[-1]["epoch"] in self.prune_epochs
        if position["size"] >= self.rounds:
            return False
        densities = [list(entry["densities"].values()) for entry in since]
        longest = self.max_epochs or (len(entries) + left) // (self.rounds + 1)
        return rules.due(densities, self.window, self.saturation, self.min_epochs, longest, left)

    def widths(self, entry: dict) -> dict[str, int]:
        """What the densities of an epoch ask for: the groups that change, with their new widths."""
        wanted = {
            name: rules.resized(entry["widths"][name], density, self.smallest, self.multiple)
            for name, density in entry["densities"].items()
        }
        return {name: width for name, width in wanted.items() if width < entry["widths"][name]}

    def refusal(self, entry: dict) -> str | None:
        """Why nothing is to be resized by the densities of an epoch; None if it is."""
        if entry["density"] >= rules.FULL:
            return f"density {entry['density']:.2f} is {rules.FULL} or more"
        return None if self.widths(entry) else "it would change no layer by a channel"

    def fall(self, entries: list[dict], size: int) -> str | None:
        """How far the stage after `size` resizes has fallen below the one before; None if within the tolerance."""
        before, now = (self._monitored(entries, stage) for stage in (size - 1, size))
        if not rules.fallen(before, now, self.tolerance, self.lower_is_better):
            return None
        best = min if self.lower_is_better else max
        return f"{self.monitor} {best(now):.4f} after {best(before):.4f} is worse by more than {self.tolerance:g}"

    def _monitored(self, entries, stage):
        values = [entry.get(self.monitor, math.nan) for entry in entries if entry["stage"] == stage]
        return [value for value in values if not math.isnan(value)]

    @property
    def lower_is_better(self) -> bool:
        """Losses and errors are to fall, everything else is to rise."""
        return self.monitor.endswith(("loss", "error"))


def check_whole(name: str, value, least: int = 1) -> None:
    """Refuse what is no whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: expected a whole number of at least {least}, such as {name}={least}.")


def _fraction(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError(f"{name}={value!r}: expected a number of at least 0, such as {name}=0.01.")


def _rising(epochs):
    whole = isinstance(epochs, (list, tuple)) and epochs and all(type(e) is int and e > 0 for e in epochs)
    if not whole or list(epochs) != sorted(set(epochs)):
        raise ValueError(
            f"prune_epochs={epochs!r}: expected rising numbers of epochs, after which to resize: prune_epochs=[10, 20]."
        )
    return tuple(epochs)
