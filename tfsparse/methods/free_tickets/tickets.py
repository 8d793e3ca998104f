"""Tickets on disk: Keras files, and `tickets.json` which says what they are."""

import dataclasses
import json
import pathlib

import keras

from tfsparse.backend import files

_INDEX = "tickets.json"


@dataclasses.dataclass(frozen=True)
class Ticket:
    """A sparse network of one refinement phase: its masks, weights and optimizer in a `.keras` file.

    Args:
        phase: The refinement phase, from 1.
        epoch: The epoch at whose end it was saved, from 0 as in `fit`.
        step: Optimizer steps that were done then.
        value: What was monitored, or None.
    """

    phase: int
    epoch: int
    step: int
    value: float | None = None

    def path(self, folder: pathlib.Path) -> pathlib.Path:
        """Return its file in a folder."""
        return folder / f"ticket_{self.phase}.keras"


class TicketFolder:
    """The tickets of one training, at most one for each phase.

    A file is written before its entry in `tickets.json`. So after a kill in between, the resumed training, which has no
    entry, writes the same file again.

    Args:
        path: The folder. It is created with the first ticket.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def read(self) -> dict[int, Ticket]:
        """Return the tickets by phase, in order; none if there is no folder yet."""
        index = self.path / _INDEX
        entries = json.loads(index.read_text(encoding="utf-8")) if index.exists() else []
        return {entry["phase"]: Ticket(**entry) for entry in entries}

    def paths(self) -> list[pathlib.Path]:
        """Return the files of all tickets, in the order of their phases."""
        return [ticket.path(self.path) for ticket in self.read().values()]

    def save(self, ticket: Ticket, model: keras.Model) -> None:
        """Write a model as the ticket of its phase, in place of an earlier one."""
        files.write(ticket.path(self.path), model.save, overwrite=True)
        self._write(self.read() | {ticket.phase: ticket})

    def forget_after(self, step: int) -> None:
        """Remove the entries of what is to be trained again: tickets from after a step of training."""
        tickets = self.read()
        kept = {phase: ticket for phase, ticket in tickets.items() if ticket.step <= step}
        if kept != tickets:
            self._write(kept)

    def _write(self, tickets):
        entries = [dataclasses.asdict(tickets[phase]) for phase in sorted(tickets)]
        files.write_text(self.path / _INDEX, json.dumps(entries, indent=1) + "\n", overwrite=True)
