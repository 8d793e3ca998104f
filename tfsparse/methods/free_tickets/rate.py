"""The learning rate of a training that gives several tickets."""

import keras
from keras import ops

from tfsparse.methods.free_tickets.phases import check_phases, phase_at


@keras.saving.register_keras_serializable(package="tfsparse")
class FreeTicketsRate(keras.optimizers.schedules.LearningRateSchedule):
    """A cyclic learning rate: high in the exploration, then in every refinement phase low and lower.

        exploration:                         first
        first half of a refinement phase:    first * factor
        second half of a refinement phase:   first * factor²

    Args:
        first: Learning rate of the exploration, > 0.
        total_steps: Batches of the whole training, >= 1.
        exploration: That of `FreeTickets`, a fraction of training in (0, 1). Default: 1/3.
        num_tickets: That of `FreeTickets`, >= 1. Default: 3.
        factor: What the rate is multiplied by, > 0. Default: 0.1.

    Raises:
        ValueError: If an argument is outside its range.

    Source:
        Liu et al., "Deep Ensembling with No Overhead for either Training or Testing: The All-Round Blessings of Dynamic
        Sparsity" (ICLR 2022), EDST ensemble.

    Examples:
        >>> rate = FreeTicketsRate(0.1, total_steps=90)
        >>> [f"{float(rate(step)):.3f}" for step in (0, 29, 30, 40, 50, 60)]
        ['0.100', '0.100', '0.010', '0.001', '0.010', '0.001']
    """

    def __init__(
        self,
        first: float,
        total_steps: int,
        exploration: float = 1 / 3,
        num_tickets: int = 3,
        factor: float = 0.1,
    ):
        if not (first > 0 and factor > 0 and total_steps >= 1):
            raise ValueError(
                f"first={first}, total_steps={total_steps}, factor={factor}: expected positive numbers, for example "
                "FreeTicketsRate(0.1, total_steps=epochs * steps_per_epoch)."
            )
        check_phases(type(self).__name__, exploration, num_tickets)
        self.first, self.total_steps, self.factor = first, total_steps, factor
        self.exploration, self.num_tickets = exploration, num_tickets

    def __call__(self, step):
        phase = phase_at(step, self.total_steps, self.exploration, self.num_tickets)
        is_late = 2 * (ops.cast(step, "int32") - phase.begin) >= phase.length
        refining = self.first * self.factor * ops.where(is_late, self.factor, 1.0)
        return ops.where(phase.index > 0, refining, self.first)

    def get_config(self):
        return {k: getattr(self, k) for k in ("first", "total_steps", "exploration", "num_tickets", "factor")}
