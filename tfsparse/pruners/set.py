"""SET: sparse evolutionary training."""

from tfsparse.backend.hashing import hash_uniform
from tfsparse.pruners.drop_and_grow import DropAndGrow
from tfsparse.pruners.pruner import pruners


@pruners.register
class SET(DropAndGrow):
    """At every update drop the smallest weights and grow as many at random.

        kept = the n - k largest |w| of the weights that are not pruned
        growth = uniform(1/2, 1)                                for n and k see `DropAndGrow`

    The random numbers are a hash of `seed`, the position of the weight in the model, and the step. They differ at every
    update and are the same on all replicas and in a resumed run. The authors exchange a constant fraction; here the
    fraction falls as in RigL.

    Args:
        granularity: "weight", "channel", a block `(outputs, inputs)`, or `{"dense": ..., "conv": ...}` of two of these.
            Default: "weight".
        scope: "layer", the only choice.
        allocation: "erk" or "uniform". Default: "erk".
        drop_fraction: Fraction of the kept weights that the first update exchanges, in (0, 1]. It falls as half a
            cosine. Default: 0.3.
        end: Fraction of training from which nothing is exchanged, in (0, 1]. Default: 0.75.
        seed: Seed of all random choices. Default: 0.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Mocanu et al., "Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity inspired by
        Network Science" (Nature Communications 2018).

    Examples:
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("constant", 0.9, tfsparse.SET())])
    """

    def growth(self, gradient, mask, index):
        return hash_uniform(mask.shape, self.seed, index, self._step)
