"""DRIVE: magnitude and two sensitivities together."""

import copy

from keras import ops

from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class DRIVE(ScorePruner):
    """Prune what is low in magnitude, in connection sensitivity and in convergence sensitivity together.

        score = magnitude * |w| / sum |w| + connection * |w g| / sum |w g| + convergence * |g| / sum |g|
        g = dL/dw                                   sums: over the kept weights, of all layers if scope="global"

    The authors train the dense network for a few epochs, prune it rapidly in rounds, and train on. The schedule of the
    example does this: it prunes at every hundredth of training from a tenth to three tenths of it, and less each time.

    Only the paper's abstract was read, and its authors have published no code. It names the three parts of the score.
    All else is ours: the formulas of the two sensitivities, the sums that they are divided by, their equal factors, the
    gradient of one batch, and the numbers of dense epochs and of rounds.

    Args:
        granularity: "weight", "channel", a block `(outputs, inputs)`, "n:m", or `{"dense": ..., "conv": ...}`. Default:
            "weight".
        scope: "global": one threshold for all weights, or "layer". Default: None, which is "global", or "layer" with an
            allocation.
        allocation: "uniform" or "erk", for scope="layer". Default: "uniform".
        magnitude: Factor of the share of |w|, >= 0. Default: 1.0.
        connection: Factor of the share of |w g|, >= 0. Default: 1.0.
        convergence: Factor of the share of |g|, >= 0. Default: 1.0.

    Raises:
        ValueError: If an argument is none of these, or if all factors are 0.

    Source:
        Saikumar, Varghese, "DRIVE: Dual Gradient-Based Rapid Iterative Pruning" (arXiv 2404.03687).

    Examples:
        >>> rapid = tfsparse.Polynomial(start=0.1, end=0.3, updates=100)
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune(rapid, 0.9, "drive")])
    """

    needs_gradients, is_rounded_anew = True, True

    def __init__(
        self,
        granularity="weight",
        scope: str | None = None,
        allocation: str = "uniform",
        *,
        magnitude: float = 1.0,
        connection: float = 1.0,
        convergence: float = 1.0,
    ):
        super().__init__(granularity, scope, allocation)
        factors = {"magnitude": magnitude, "connection": connection, "convergence": convergence}
        if not all(factor >= 0 for factor in factors.values()) or not any(factors.values()):
            given = ", ".join(f"{name}={factor!r}" for name, factor in factors.items())
            raise ValueError(f"DRIVE got {given}: expected numbers >= 0 of which one is not 0, as in convergence=0.5.")
        self.magnitude, self.connection, self.convergence = magnitude, connection, convergence
        self._sums = None

    def masks(self, weights, gradients, masks, num_pruned):
        pruner = copy.copy(self)
        if self.is_global:
            triples = zip(weights, gradients, masks, strict=True)
            pruner._sums = [sum(of_layers) for of_layers in zip(*(_sums(_terms(*t)) for t in triples), strict=True)]
        return super(DRIVE, pruner).masks(weights, gradients, masks, num_pruned)

    def score(self, weight, gradient, mask):
        terms, factors = _terms(weight, gradient, mask), (self.magnitude, self.connection, self.convergence)
        sums = self._sums or _sums(terms)
        return sum(f * t / ops.maximum(s, 1e-30) for f, t, s in zip(factors, terms, sums, strict=True))


def _terms(weight, gradient, mask):
    """Return |w|, |w g| and |g|, which are zero where the mask is."""
    w, g = ops.abs(ops.cast(weight, "float32")), ops.abs(ops.cast(gradient, "float32"))
    kept = ops.cast(mask > 0, "float32")
    return w * kept, w * g * kept, g * kept


def _sums(terms):
    return [ops.sum(term) for term in terms]
