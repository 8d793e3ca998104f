"""Random pruning, the baseline that every criterion must beat."""

from keras import ops

from tfsparse.backend.hashing import hash_uniform
from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Random(ScorePruner):
    """Prune weights in a random order.

        score = uniform(1/2, 1) * mask

    The order is a hash of `seed` and the position of the weight in the model. It is the same on all replicas, in all
    processes, and in a resumed run.

    Args:
        granularity: "weight", "channel", a block `(outputs, inputs)`, "n:m", or `{"dense": ..., "conv": ...}`. Default:
            "weight".
        scope: "layer" or "global". Default: "layer".
        allocation: "uniform" or "erk", for scope="layer". Default: "uniform".
        seed: An int. Default: 0.

    Raises:
        ValueError: If an argument is none of these.

    Examples:
        >>> tfsparse.Prune("one_cycle", 0.9, tfsparse.Random(seed=1))
    """

    def __init__(self, granularity="weight", scope: str = "layer", allocation: str = "uniform", *, seed: int = 0):
        super().__init__(granularity, scope, allocation)
        self.seed = seed

    def score_at(self, index, weight, gradient, mask):
        return hash_uniform(mask.shape, self.seed, index) * ops.cast(mask, "float32")

    def score(self, weight, gradient, mask):
        return self.score_at(0, weight, gradient, mask)
