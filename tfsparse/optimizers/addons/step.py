"""One step of the inner optimizer with add-ons."""

from keras import ops

from tfsparse.backend import keras_internals, replicas
from tfsparse.backend import ops as backend_ops
from tfsparse.optimizers.addons.addon import GradientAddon, WeightAddon


class AddonStep:
    """Calls add-ons for the pruned weights of a `MaskState`.

        gradients = changed_gradients(gradients)
        inputs = weight_inputs(gradients)
        inner_optimizer.apply(gradients)
        change_weights(inputs, stepped)

    Args:
        addons: The add-ons in the order in which they are called.
        state: The `MaskState` with the weights and the masks.
    """

    def __init__(self, addons, state):
        self._of_gradients = [addon for addon in addons if isinstance(addon, GradientAddon)]
        self._of_weights = [addon for addon in addons if isinstance(addon, WeightAddon)]
        self._state = state

    @property
    def needs_gradients(self) -> bool:
        """Whether an add-on needs the gradients of the global batch."""
        return bool(self._of_weights)

    def changed_gradients(self, gradients: dict) -> dict:
        """Return the gradients, by index of the trainable variable, that the inner optimizer gets."""
        changed = dict(gradients)
        for addon in self._of_gradients:
            for index, mask in zip(self._state.indices, self._state.masks, strict=True):
                if changed.get(index) is not None:
                    gradient = ops.convert_to_tensor(changed[index])
                    changed[index] = addon.gradient(gradient, backend_ops.read(mask))
        return changed

    def weight_inputs(self, gradients: dict) -> tuple:
        """Return what `change_weights` needs of the next step; an empty tuple if no add-on changes weights.

        Args:
            gradients: Of each weight this replica's share of the global gradient, by index of the variable.

        Returns:
            The learning rate, and the global gradients that the step is made with, by position of the weight.
        """
        if not self._of_weights:
            return ()
        inner, pairs = self._state.inner_optimizer, zip(self._state.indices, self._state.weights, strict=True)
        step_gradients = {
            position: replicas.sum_of_shares(keras_internals.step_gradient(inner, variable, gradients[index]))
            for position, (index, variable) in enumerate(pairs)
            if gradients.get(index) is not None
        }
        return backend_ops.read(inner.learning_rate), step_gradients

    def change_weights(self, inputs: tuple, stepped) -> None:
        """Let the add-ons change the weights where the inner optimizer has made a step, in cross-replica context.

        Args:
            inputs: What `weight_inputs` returned before the step.
            stepped: Whether a step was made, a boolean tensor.
        """
        if not inputs:
            return
        learning_rate, step_gradients = inputs
        weights, masks = self._state.weights, self._state.masks

        def changed(weight, gradient, mask):
            before = after = backend_ops.read(weight)
            rate, gradient = ops.cast(learning_rate, before.dtype), ops.cast(gradient, before.dtype)
            for addon in self._of_weights:
                after = addon.weight(after, gradient, backend_ops.read(mask), rate)
            return ops.where(stepped, after, before)

        backend_ops.make_in_turn(
            replicas.update(weights[position], changed, gradient, masks[position])
            for position, gradient in step_gradients.items()
        )
