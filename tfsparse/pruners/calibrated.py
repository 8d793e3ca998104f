"""Base of the pruners that score the weights of a model once, outside of training."""

import abc

from keras import ops

from tfsparse.pruners.pruner import ScorePruner


class CalibratedPruner(ScorePruner):
    """Base of the pruners that look at a whole model and at data. A subclass writes `sensitivities` and `score`.

        for each round r of R:
            sensitivities of the model with its present zeros
            mask = 1 for the n (1 - sparsity)^(r / R) highest score(w, sensitivity, mask) of n weights

    Such a pruner works before training in `tfsparse.Prune("constant", sparsity, pruner, data=...)`, which keeps its
    masks, and at any time in `tfsparse.prune(model, sparsity, pruner, data=...)`.

    Args:
        granularity: As in `ScorePruner`. Default: "weight".
        scope: As in `ScorePruner`. Default: None.
        allocation: As in `ScorePruner`. Default: "uniform".
        rounds: Number R of rounds, >= 1. Default: 1.

    Raises:
        ValueError: If an argument is none of these.
    """

    needs_calibration = True

    def __init__(self, granularity="weight", scope: str | None = None, allocation: str = "uniform", *, rounds: int = 1):
        super().__init__(granularity, scope, allocation)
        if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
            name = type(self).__name__
            raise ValueError(
                f"{name} got rounds={rounds!r}: expected a whole number of at least 1, as in {name}(rounds=100)."
            )
        self.rounds = rounds

    @abc.abstractmethod
    def sensitivities(self, calibration, weights) -> list:
        """Return for each weight what `score` gets as its gradient. It is compiled.

        Args:
            calibration: A `tfsparse.optimizers.calibration.Calibration`: the model and the data.
            weights: Tensors, zero where they are pruned.

        Returns:
            A list of tensors of the shapes of `weights`.
        """

    def score_at(self, index, weight, gradient, mask):
        if gradient is None:
            raise ValueError(in_training(self))
        return super().score_at(index, weight, gradient, mask)


class FirstOrderPruner(CalibratedPruner):
    """Base of the pruners whose score is |w * sensitivity|, in many rounds. A subclass writes `sensitivities`."""

    def __init__(
        self, granularity="weight", scope: str | None = None, allocation: str = "uniform", *, rounds: int = 100
    ):
        super().__init__(granularity, scope, allocation, rounds=rounds)

    def score(self, weight, gradient, mask):
        return ops.abs(weight * gradient)


def in_training(pruner) -> str:
    """Return the message for a `CalibratedPruner` that is to prune in a training step."""
    return (
        f"{pruner!r} scores a whole model before or after training, not in a step of it. Prune before the first step "
        'and keep the masks: fit(..., callbacks=[tfsparse.Prune("constant", sparsity, pruner, data=(x, y))]), or '
        "tfsparse.prune(model, sparsity, pruner, data=(x, y)) and tfsparse.keep_zeros(model)."
    )
