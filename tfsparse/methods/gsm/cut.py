"""The cut at the end of a training with GSM: the callback of both roads, without what each Keras forces."""

import abc

from tfsparse.callbacks.final_cut import FinalCut
from tfsparse.optimizers.masked_weights import MaskedWeights


class GSMCut(FinalCut):
    """Mixed into a callback of Keras 3 or tf_keras: one global cut after the last step; the logs get the sparsity."""

    @property
    @abc.abstractmethod
    def _masked_weights(self) -> MaskedWeights:
        """All pruned weights of the model, which are ranked together."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if logs is not None:
            logs["sparsity"] = self._masked_weights.sparsity()

    def _cut_variables(self):
        return self._masked_weights.weights
