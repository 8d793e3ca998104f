"""HAM: a multiplicative step after each step of the optimizer."""

import math

from keras import ops

from tfsparse.optimizers.addons.addon import WeightAddon, addons

_LARGEST_EXPONENT = 5.0


@addons.register
class HAM(WeightAddon):
    """After each step, scale living weights up where the step made them larger, and down where it made them smaller.

        exponent = clip(-learning_rate * (alpha * sign(w) * dL/dw + beta), -5, 5)
        w = w * exp(exponent)                          for living weights of rank >= 2;  w is that after the step

    No weight changes its sign, and a weight that is zero stays zero. Large weights move faster than small ones. No
    memory is needed. On several replicas gradients are summed at every step, once more than without HAM.

    Args:
        alpha: Weight of the gradient, >= 0. With a large learning rate choose it small: `learning_rate * alpha` times a
            gradient is an exponent. Default: 10.0. The authors use 200.
        beta: Strength of the shrinking of all weights, >= 0; tune it like weight decay. Default: 1e-3. The authors use
            1e-3 on ImageNet and 16e-3 on CIFAR-100.

    Raises:
        ValueError: If an argument is negative or not finite.

    Source:
        Jacobs, Gadhikar, Rubio-Madrigal, Burkholz, "Hyperbolic Aware Minimization: Implicit Bias for Sparsity" (ICLR
        2026), with the limits of 5 of the authors' code. Ours: only weights that are pruned, and the smaller default of
        `alpha`.

    Examples:
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("one_cycle", 0.9, addons=[tfsparse.HAM(alpha=10)])])
    """

    def __init__(self, alpha: float = 10.0, beta: float = 1e-3):
        for name, value, example in (("alpha", alpha, 10.0), ("beta", beta, 1e-3)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"HAM got {name}={value!r}: expected a number >= 0, for example {name}={example}.")
        self.alpha, self.beta = alpha, beta

    def weight(self, weight, gradient, mask, learning_rate):
        if len(weight.shape) < 2:
            return weight
        exponent = -learning_rate * (self.alpha * ops.sign(weight) * gradient + self.beta)
        scaled = weight * ops.exp(ops.clip(exponent, -_LARGEST_EXPONENT, _LARGEST_EXPONENT))
        return ops.where(mask > 0, scaled, weight)
