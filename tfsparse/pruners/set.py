"""SET: sparse evolutionary training."""

from tfsparse.backend.hashing import hash_uniform
from tfsparse.pruners.drop_and_grow import DropAndGrow
from tfsparse.pruners.pruner import pruners


@pruners.register
class SET(DropAndGrow):
    """At every update the smallest weights are dropped and as many grow at random.

        kept = the n - k largest |w| of the living;  growth = uniform(1/2, 1)       n, k: see `DropAndGrow`

    Drawn by a hash of `seed`, the weight's place in the model and the step: anew at every update, the same on every
    replica and after a resume. Arguments and errors are those of `DropAndGrow`. The authors exchange a constant share;
    here it falls as in RigL.

    Source: Mocanu et al., "Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity inspired
    by Network Science" (Nature Communications 2018).

    >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("constant", 0.9, tfsparse.SET())])
    """

    def growth(self, gradient, mask, place):
        return hash_uniform(mask.shape, self.seed, place, self._step)
