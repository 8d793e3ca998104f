"""Random pruning, the floor every criterion must beat."""

from keras import ops

from tfsparse.backend.hashing import hash_uniform
from tfsparse.pruners.pruner import ScorePruner, pruners


@pruners.register
class Random(ScorePruner):
    """Weights go in a random order that is fixed by `seed` and the weight's place in the model.

        score = uniform(1/2, 1) * mask

    Stateless: every replica, every process and every resumed run draws the same order.
    """

    def __init__(self, granularity="weight", scope="layer", allocation="uniform", seed: int = 0):
        super().__init__(granularity, scope, allocation)
        self.seed = seed

    def scores(self, weights, gradients, masks):
        return [hash_uniform(m.shape, self.seed, i) * ops.cast(m, "float32") for i, m in enumerate(masks)]

    def score(self, weight, gradient, mask):
        return self.scores([weight], [gradient], [mask])[0]
