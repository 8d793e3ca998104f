"""The callback that saves several sparse networks of one training."""

import os

import numpy as np

from tfsparse.backend import keras_internals
from tfsparse.backend import ops as backend_ops
from tfsparse.backend.registry import check_choice
from tfsparse.callbacks.prune import Prune
from tfsparse.methods.free_tickets.exchange import CyclicExchange
from tfsparse.methods.free_tickets.phases import Phases, phase_at
from tfsparse.methods.free_tickets.rate import FreeTicketsRate
from tfsparse.methods.free_tickets.tickets import Ticket, TicketFolder


class FreeTickets(Prune):
    """Trains one sparse network and saves several of its states, the tickets of an ensemble (EDST).

        exploration:              train sparse and exchange weights, as RigL and SET do
        refinement phase 1, ...:  the same, with the exchanges begun anew; its ticket is saved at the end of an epoch
        first step of phase 2, ...: exchange `large_fraction` of the weights, to leave the basin of the last ticket

    It is a `tfsparse.Prune`: masks, exchanges and the position in the phases are in the compiled training step. Compile
    with the cyclic learning rate `FreeTicketsRate` of the same `exploration` and `num_tickets`, or with another one.
    `tfsparse.ensemble(folder)` makes one model of the tickets.

    Tickets are saved at ends of epochs, so choose `exploration` such that each phase is a whole number of epochs. A
    training that is killed and resumed leaves the tickets of the straight training. With `monitor`, place the callback
    before `BackupAndRestore` in the list for that.

    Args:
        folder: Where the tickets are saved, as `ticket_1.keras`, `ticket_2.keras`, ... and `tickets.json`. Those of an
            earlier training are replaced.
        sparsity: Fraction of zeros of all kernels together, in [0, 1). Default: 0.8.
        pruner: How weights are exchanged: "rigl", "set", or a `tfsparse.pruners.DropAndGrow`. What it exchanges falls
            to nothing in each phase. Default: "rigl".
        num_tickets: Number of refinement phases, and of tickets, >= 1. Default: 3.
        exploration: Fraction of training before the first refinement phase, in (0, 1). Default: 1/3.
        large_fraction: Fraction of the kept weights that is exchanged between two refinement phases, in (0, 1].
            Default: 0.8.
        updates: Largest number of evenly spaced exchanges in training, or None for one at every step. Default: 100.
        monitor: Name of a value in the logs, such as "val_accuracy": the ticket is the best epoch of its phase.
            Default: None, the last epoch of the phase.
        mode: "max" if a high value is good, "min" if a low one is. Default: "auto", which is "max" if "acc" is in the
            name.
        **options: Further arguments of `tfsparse.Prune`: `total_steps`, `sparsities`, `exclude`, `skip_first`,
            `skip_last`, `on_divergence` and `verbose`.

    Attributes:
        folder: The folder, a `pathlib.Path`.

    Raises:
        ValueError: If an argument is none of these. Before the first step, if a phase has no end of an epoch, or if the
            learning rate is a `FreeTicketsRate` of other phases. After an epoch, if the logs have no `monitor`.

    Source:
        Liu et al., "Deep Ensembling with No Overhead for either Training or Testing: The All-Round Blessings of Dynamic
        Sparsity" (ICLR 2022), EDST ensemble.

    Examples:
        >>> rate = tfsparse.FreeTicketsRate(0.1, total_steps=20 * steps_per_epoch, exploration=0.4)
        >>> model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss="sparse_categorical_crossentropy")
        >>> model.fit(x, y, epochs=20, callbacks=[tfsparse.FreeTickets("tickets", 0.9, exploration=0.4)])
        >>> model = tfsparse.ensemble("tickets")
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        sparsity: float = 0.8,
        pruner="rigl",
        *,
        num_tickets: int = 3,
        exploration: float = 1 / 3,
        large_fraction: float = 0.8,
        updates: int | None = 100,
        monitor: str | None = None,
        mode: str = "auto",
        **options,
    ):
        pruner = CyclicExchange(pruner, exploration, num_tickets, large_fraction)
        super().__init__(Phases(exploration, num_tickets, updates), sparsity, pruner, **options)
        check_choice("mode", mode, ("auto", "min", "max"))
        self._tickets, self.monitor = TicketFolder(folder), monitor
        self._sign = 1 if mode == "max" or (mode == "auto" and "acc" in (monitor or "")) else -1

    @property
    def folder(self):
        """The folder of the tickets, a `pathlib.Path`."""
        return self._tickets.path

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self._save(epoch, logs or {})

    def _begin_fit(self, first_epoch, num_steps):
        super()._begin_fit(first_epoch, num_steps)
        self._check_epochs()
        self._check_learning_rate()
        self._tickets.forget_after(self._steps_done())
        if first_epoch and self.monitor is None:  # a kill may have come after the backup and before the ticket
            self._save(first_epoch - 1, {})

    def _save(self, epoch, logs):
        """Save the model as the ticket of its phase, unless an earlier epoch is better."""
        if self.monitor is not None and self.monitor not in logs:
            raise ValueError(
                f"FreeTickets got monitor={self.monitor!r}, and the logs have {', '.join(map(repr, logs))}: expected "
                "one of these. For a name with val_ give fit validation data."
            )
        step = self._steps_done()
        phase = int(self._phases(step))
        if phase == 0 or step > self._optimizer.total_steps:
            return
        value = None if self.monitor is None else float(logs[self.monitor])
        earlier = self._tickets.read().get(phase)
        if None in (value, earlier) or self._sign * value > self._sign * earlier.value:
            self._tickets.save(Ticket(phase, epoch, step, value), self.model)

    def _phases(self, steps):
        """Return the phases that some steps, counted from 1, belong to."""
        schedule, steps = self.schedule, np.maximum(steps, 1)
        phase = phase_at(steps - 1, self._optimizer.total_steps, schedule.exploration, schedule.num_tickets)
        return backend_ops.to_numpy(phase.index)

    def _check_epochs(self):
        total, batches = self._optimizer.total_steps, self.params.get("steps")
        if batches is None:
            return
        num_epochs = total * self._batches_per_step() // batches
        ends = np.arange(1, num_epochs + 1) * batches // self._batches_per_step()
        missing = {*range(1, self.schedule.num_tickets + 1)} - {*self._phases(ends).tolist()}
        if missing:
            raise ValueError(
                f"Refinement phase {min(missing)} of {self.schedule.num_tickets} has no end of an epoch, where its "
                f"ticket would be saved: training has {num_epochs} epochs, and exploration is "
                f"{self.schedule.exploration:.3g} of it. Train for more epochs, or write a smaller exploration or "
                "num_tickets."
            )

    def _check_learning_rate(self):
        rate = keras_internals.learning_rate_of(self._optimizer.inner_optimizer)
        if not isinstance(rate, FreeTicketsRate):
            return
        total = self._optimizer.total_steps * self._batches_per_step()
        expected = {"exploration": self.schedule.exploration, "num_tickets": self.schedule.num_tickets}
        found = {name: getattr(rate, name) for name in (*expected, "total_steps")}
        if found != expected | {"total_steps": total}:
            arguments = ", ".join(f"{name}={value}" for name, value in (expected | {"total_steps": total}).items())
            raise ValueError(
                f"FreeTickets and the learning rate have other phases, {found}: write FreeTicketsRate("
                f"{rate.first}, {arguments})."
            )
