"""Alternating compressed and decompressed phases (AC/DC)."""

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules

_PART = 1e-4  # of a phase: float32 writes 2 phases as a hair less


@schedules.register
class ACDC(Schedule):
    """AC/DC: dense until `start`, then sparse and dense phases in turn, a longer dense one, and sparse from `end` on.

        schedule(t) = 1 in [start, start + phase), [start + 2 phase, start + 3 phase), ... before `last_dense`
                      0 elsewhere before `end`;  1 from `end` on

    Masks are due where a phase begins and nowhere else. The defaults are the paper's 100 epochs of ResNet-50, as
    fractions. Weights return with the value 0 and with empty slots; the authors empty the momentum of all weights then.
    They rank all weights together: `Prune("acdc", 0.9, tfsparse.Magnitude(scope="global"))`.

    Args:
        start: fraction of training at which the first sparse phase begins.
        phase: length of a phase, > 0.
        last_dense: where the last dense phase begins.
        end: where it ends; 0 <= start < last_dense < end <= 1.

    Raises: ValueError for phases that are none.

    Source: Peste et al., "AC/DC: Alternating Compressed/DeCompressed Training of Deep Neural Networks" (NeurIPS 2021).

    >>> [ACDC()(t) for t in (0.05, 0.12, 0.17, 0.8, 0.9)]
    [0.0, 1.0, 0.0, 0.0, 1.0]
    """

    def __init__(self, start: float = 0.1, phase: float = 0.05, last_dense: float = 0.75, end: float = 0.85):
        super().__init__(start, end, updates=None)
        if not (start < last_dense < end and phase > 0):
            raise ValueError(
                f"ACDC got start={start}, phase={phase}, last_dense={last_dense}, end={end}: expected phase > 0 and "
                "start < last_dense < end, as in ACDC(start=0.1, phase=0.05, last_dense=0.75, end=0.85)."
            )
        self.phase, self.last_dense = phase, last_dense

    def progress(self, p):
        passed = p * (self.end - self.start) / self.phase + _PART
        alternating = passed < (self.last_dense - self.start) / self.phase
        return ops.cast(ops.logical_and(alternating, ops.mod(ops.floor(passed), 2) == 0), "float32")

    def _on_grid(self, step, first, total):
        changed = ops.not_equal(self.fraction(step, total), self.fraction(step - 1, total))
        return ops.logical_or(changed, ops.equal(step, first))
