"""AC/DC: alternating compressed and decompressed phases."""

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules

_ROUND_OFF = 1e-4  # of a phase: in float32 two phases are slightly less than 2


@schedules.register
class ACDC(Schedule):
    """AC/DC: dense until `start`, then sparse and dense phases in turn, a longer dense phase, and sparse from `end` on.

        schedule(t) = 1 for t in [start, start + phase), [start + 2 phase, start + 3 phase), ... before last_dense
                      0 elsewhere before end
                      1 for t >= end

    The masks are updated only where a phase begins. Weights return with the value 0 and empty optimizer slots; the
    authors empty the momentum of all weights then. They rank the weights of all layers together, as
    `tfsparse.Magnitude()` does. The defaults are the paper's 100 epochs of ResNet-50 as fractions.

    Args:
        start: Fraction of training at which the first sparse phase begins, in [0, 1). Default: 0.1.
        phase: Length of a phase as a fraction of training, > 0. Default: 0.05.
        last_dense: Fraction of training at which the last dense phase begins, in (start, end). Default: 0.75.
        end: Fraction of training at which it ends, in (last_dense, 1]. Default: 0.85.

    Raises:
        ValueError: If the fractions are not in this order, or `phase` is not positive.

    Source:
        Peste et al., "AC/DC: Alternating Compressed/DeCompressed Training of Deep Neural Networks" (NeurIPS 2021).

    Examples:
        >>> [ACDC()(t) for t in (0.05, 0.12, 0.17, 0.8, 0.9)]
        [0.0, 1.0, 0.0, 0.0, 1.0]
        >>> tfsparse.Prune("acdc", 0.9)
    """

    def __init__(self, start: float = 0.1, phase: float = 0.05, *, last_dense: float = 0.75, end: float = 0.85):
        super().__init__(start, end, updates=None)
        if not (start < last_dense < end and phase > 0):
            raise ValueError(
                f"ACDC got start={start}, phase={phase}, last_dense={last_dense}, end={end}: expected phase > 0 and "
                "start < last_dense < end, as in ACDC(start=0.1, phase=0.05, last_dense=0.75, end=0.85)."
            )
        self.phase, self.last_dense = phase, last_dense

    def progress(self, p):
        num_phases = p * (self.end - self.start) / self.phase + _ROUND_OFF
        alternates = num_phases < (self.last_dense - self.start) / self.phase
        return ops.cast(ops.logical_and(alternates, ops.mod(ops.floor(num_phases), 2) == 0), "float32")

    def is_update(self, step, first, total):
        changes = ops.not_equal(self.fraction(step, total), self.fraction(step - 1, total))
        return ops.logical_or(changes, ops.equal(step, first))
