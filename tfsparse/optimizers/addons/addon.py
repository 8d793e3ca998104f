"""The bases of all add-ons."""

import abc
from collections.abc import Sequence

from tfsparse.backend.registry import Configurable, Registry


class Addon(Configurable, abc.ABC):
    """Base of what changes the steps of the inner optimizer for the weights that are pruned, by any pruner.

        gradients = addon.gradient(gradients, masks)                             a `GradientAddon`
        inner_optimizer.apply(gradients)
        weights = addon.weight(weights, gradients, masks, learning_rate)         a `WeightAddon`
        masks = pruner.masks(...) if an update is due;  weights = weights * masks

    Weights that are left dense, and biases, are not changed. An add-on has no state. It is called in the compiled
    training step, so it consists of `keras.ops`. The pruner scores the gradients of the loss, which no add-on has
    changed. The inner optimizer has made its moving averages and applied constraints before a `WeightAddon` is called.

    Derive from `GradientAddon` or `WeightAddon`, and register the class to use it by name:
    `@tfsparse.optimizers.addons.addons.register`.
    """


class GradientAddon(Addon):
    """Base of the add-ons that change gradients before the inner optimizer gets them. A subclass writes `gradient`."""

    @abc.abstractmethod
    def gradient(self, gradient, mask):
        """Return the gradient that the inner optimizer gets.

            sum of gradient(g, mask) over replicas == gradient(sum of g, mask)

        Args:
            gradient: Gradient of one weight, of the batch of this replica.
            mask: Mask of the weight before the step, a uint8 tensor of its shape: 1 lives, 0 is pruned.

        Returns:
            A tensor of the gradient's shape and dtype.
        """


class WeightAddon(Addon):
    """Base of the add-ons that change weights after the step of the inner optimizer. A subclass writes `weight`.

    It is called only where the inner optimizer has made a step, not while it accumulates gradients.
    """

    @abc.abstractmethod
    def weight(self, weight, gradient, mask, learning_rate):
        """Return the weight after the step.

        Args:
            weight: Weight after the step of the inner optimizer; a pruned entry is not zero yet.
            gradient: Gradient that this step was made with, of the global batch and before it was clipped; with
                gradient accumulation the mean of the accumulated ones.
            mask: Mask of the weight before the step, a uint8 tensor of its shape: 1 lives, 0 is pruned.
            learning_rate: Learning rate of this step, a scalar tensor of the weight's dtype.

        Returns:
            A tensor of the weight's shape and dtype.
        """


addons = Registry("add-on", Addon)
get = addons.get
names = addons.names


def get_all(identifiers: Sequence) -> tuple[Addon, ...]:
    """Return the add-ons that a user's argument means.

    Args:
        identifiers: A list or tuple; each item is an add-on, its name or its config.

    Raises:
        ValueError: If it is no list or tuple, or if an item is none of these, or if two are of one class.
    """
    if not isinstance(identifiers, list | tuple):
        raise ValueError(f"addons={identifiers!r}: expected a list of add-ons, for example addons=[tfsparse.HAM()].")
    found = tuple(map(get, identifiers))
    kinds = [type(addon).__name__ for addon in found]
    twice = [kind for kind in kinds if kinds.count(kind) > 1]
    if twice:
        raise ValueError(f"addons={list(found)!r} has {twice[0]} twice: expected at most one of each kind.")
    return found
