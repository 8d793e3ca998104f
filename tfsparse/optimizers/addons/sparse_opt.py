"""SparseOpt: gradients scaled by the density of their unit."""

from keras import ops

from tfsparse.optimizers.addons.addon import GradientAddon, addons


@addons.register
class SparseOpt(GradientAddon):
    """Scale the gradients of each output unit by the density of its incoming weights.

        density[j] = living incoming weights of unit j / its incoming weights         a unit is the last axis
        dL/dw[..., j] = dL/dw[..., j] * sqrt(density[j] / mean(density))

    BatchNormalization makes the gradients of a unit with few living weights larger, by 1 / sqrt(density). This undoes
    it. A unit without living weights keeps its gradient, so that hidden dense weights can return. The densities are
    counted at every step: one pass over the mask. Pruners that grow weights by their gradients see those of the loss.

    It changes little with Adam and other optimizers that divide by the size of the gradients.

    Source:
        Adnan et al., "SparseOpt: Addressing Normalization-induced Gradient Skew in Sparse Training" (ICML 2026). Ours:
        the rule for a unit without living weights. The variant that chooses grown weights by scaled gradients is not
        here.

    Examples:
        >>> prune = tfsparse.Prune("constant", 0.9, "rigl", addons=[tfsparse.SparseOpt()])
        >>> model.fit(x, y, epochs=10, callbacks=[prune])
    """

    def gradient(self, gradient, mask):
        if len(mask.shape) < 2:
            return gradient
        living = ops.sum(ops.cast(mask, "float32"), axis=tuple(range(len(mask.shape) - 1)))
        factor = ops.where(living > 0, ops.sqrt(living / ops.maximum(ops.mean(living), 1e-9)), 1.0)
        return gradient * ops.cast(factor, gradient.dtype)
