"""The phases of a training that gives several tickets, and the schedule of its mask updates."""

from typing import NamedTuple

from keras import ops

from tfsparse.schedules.constant import Constant
from tfsparse.schedules.schedule import schedules


class Phase(NamedTuple):
    """A part of training.

    Attributes:
        index: 0 for the exploration, then 1 to `num_tickets` for the refinement phases.
        begin: Steps of training before it.
        length: Its number of steps.
    """

    index: object
    begin: object
    length: object


def phase_at(done, total, exploration: float, num_tickets: int) -> Phase:
    """Return the phase of the step that comes after `done` steps.

        exploration:  the first `round(exploration * total)` steps
        refinement:   `num_tickets` phases of equal length; the last one also has the steps that are left over

    Args:
        done: Steps that are done, >= 0; an integer tensor of any shape.
        total: Number of steps in training.
        exploration: Fraction of training before the first refinement phase, in (0, 1).
        num_tickets: Number of refinement phases, >= 1.

    Returns:
        A `Phase` of int32 tensors with the shape of `done`.
    """
    done, total = ops.cast(done, "int32"), ops.cast(total, "int32")
    first = ops.cast(ops.round(exploration * ops.cast(total, "float32")), "int32")
    length = ops.maximum(ops.floor_divide(total - first, num_tickets), 1)
    index = ops.clip(ops.floor_divide(done - first, length) + 1, 0, num_tickets)
    begin = ops.where(index > 0, first + (index - 1) * length, 0)
    end = ops.where(index == num_tickets, total, first + index * length)
    return Phase(index, begin, end - begin)


def check_phases(name: str, exploration: float, num_tickets: int) -> None:
    """Refuse numbers that are no phases.

    Args:
        name: Name of the class that has them as arguments, for the message.
        exploration: Fraction of training before the first refinement phase.
        num_tickets: Number of refinement phases.

    Raises:
        ValueError: If `exploration` is not in (0, 1), or `num_tickets` is no positive integer.
    """
    if not 0 < exploration < 1 or not isinstance(num_tickets, int) or num_tickets < 1:
        raise ValueError(
            f"{name} got exploration={exploration!r}, num_tickets={num_tickets!r}: expected a fraction of training in "
            f"(0, 1) and a positive integer, for example exploration=0.4, num_tickets=3."
        )


@schedules.register
class Phases(Constant):
    """The schedule of `FreeTickets`: the target sparsity from the first step on, and updates in each phase.

        schedule(t) = 1
        update at a step:  (step - 1 - begin of its phase) % ceil(total / updates) == 0

    So the first step of every phase updates the masks.

    Args:
        exploration: Fraction of training before the first refinement phase, in (0, 1). Default: 1/3.
        num_tickets: Number of refinement phases, >= 1. Default: 3.
        updates: Largest number of evenly spaced updates in training, to which those at the beginnings of phases are
            added, or None for an update at every step. Default: 100.

    Raises:
        ValueError: If an argument is none of these.

    Examples:
        >>> [step for step in range(1, 13) if Phases(1 / 3, num_tickets=2, updates=4).due(step, 12)]
        [1, 4, 5, 8, 9, 12]
    """

    def __init__(self, exploration: float = 1 / 3, num_tickets: int = 3, updates: int | None = 100):
        super().__init__(updates=updates)
        check_phases(type(self).__name__, exploration, num_tickets)
        self.exploration, self.num_tickets = exploration, num_tickets

    def is_update(self, step, first, total):
        begin = phase_at(step - 1, total, self.exploration, self.num_tickets).begin
        return super().is_update(step, begin + 1, total)
