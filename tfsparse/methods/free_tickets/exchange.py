"""A pruner around RigL or SET that exchanges most weights when a refinement phase begins."""

import copy

from keras import ops

from tfsparse import pruners
from tfsparse.methods.free_tickets.phases import check_phases, phase_at
from tfsparse.pruners import DropAndGrow


@pruners.pruners.register
class CyclicExchange(DropAndGrow):
    """The pruner of `FreeTickets`: another one that exchanges weights, begun anew in each phase.

        at the first step of refinement phases 2, 3, ...:  exchanged fraction = large_fraction
        at all other updates:                              that of `pruner` at the fraction of the phase that is done

    Args:
        pruner: A pruner that exchanges weights, its name or its config: "rigl", "set", or a `DropAndGrow` of your own.
            Default: "rigl".
        exploration: Fraction of training before the first refinement phase, in (0, 1). Default: 1/3.
        num_tickets: Number of refinement phases, >= 1. Default: 3.
        large_fraction: Fraction of the kept weights that is exchanged between two refinement phases, in (0, 1].
            Default: 0.8.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Liu et al., "Deep Ensembling with No Overhead for either Training or Testing: The All-Round Blessings of Dynamic
        Sparsity" (ICLR 2022), EDST ensemble. The authors exchange a constant half of the weights at all other updates.
    """

    def __init__(self, pruner="rigl", exploration: float = 1 / 3, num_tickets: int = 3, large_fraction: float = 0.8):
        pruner = pruners.get(pruner)
        if not isinstance(pruner, DropAndGrow):
            raise ValueError(
                f"FreeTickets got pruner={pruner!r}, which exchanges no weights: expected pruner=tfsparse.RigL(), "
                "tfsparse.SET() or a DropAndGrow of your own."
            )
        if not 0 < large_fraction <= 1:
            raise ValueError(
                f"large_fraction={large_fraction!r}: expected a fraction in (0, 1], for example large_fraction=0.8."
            )
        check_phases(type(self).__name__, exploration, num_tickets)
        super().__init__(pruner.granularity, pruner.scope, pruner.allocation, seed=pruner.seed)
        self.pruner, self.exploration, self.num_tickets = pruner, exploration, num_tickets
        self.large_fraction = large_fraction

    @property
    def needs_gradients(self):
        """Whether `pruner` needs them."""
        return self.pruner.needs_gradients

    def at_step(self, step, total):
        phase = phase_at(step - 1, total, self.exploration, self.num_tickets)
        done = ops.cast(step, "int32") - phase.begin
        small = self.pruner.exchanged_fraction(ops.cast(done, "float32") / ops.cast(phase.length, "float32"))
        pruner = copy.copy(self)
        pruner.pruner, pruner._step = self.pruner.at_step(step, total), step
        pruner._exchanged = ops.where(ops.logical_and(phase.index > 1, done == 1), self.large_fraction, small)
        return pruner

    def score(self, weight, gradient, mask):
        return self.pruner.score(weight, gradient, mask)

    def growth(self, gradient, mask, index):
        return self.pruner.growth(gradient, mask, index)
