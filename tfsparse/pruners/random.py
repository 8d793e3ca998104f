"""Random pruning, the floor every criterion must beat."""

import math

from keras import ops

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


def hash_uniform(shape: tuple, seed: int, place: int, step=0):
    """Uniform in [1/2, 1) from a hash of each entry's index: engines' own generators differ when compiled.

    A function of `seed`, the weight's `place` in the model and the `step`, a number or an integer tensor.
    """
    index = ops.arange(math.prod(shape), dtype="int32")
    key = ops.cast((1_000_003 * seed + 7919 * place + 1) % 2**32, "uint32") + _mixed(ops.cast(step, "uint32"))
    x = _mixed(ops.cast(index, "uint32") + key)
    uniform = ops.cast(ops.right_shift(x, ops.cast(9, "uint32")), "float32") * 2.0**-24
    return ops.reshape(uniform + 0.5, shape)


def _mixed(x):
    """A hash of 32 bits; that of 0 is 0."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = ops.bitwise_xor(x, ops.right_shift(x, ops.cast(shift, "uint32"))) * ops.cast(factor, "uint32")
    return x
