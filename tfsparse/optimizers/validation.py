"""Checks of optimizers and of the length of training."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import keras

from tfsparse.backend import keras_internals

_COORDINATEWISE = (  # the update of an entry depends on this entry alone
    keras.optimizers.SGD,
    keras.optimizers.RMSprop,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adagrad,
    keras.optimizers.Adadelta,
    keras.optimizers.Adamax,
    keras.optimizers.Nadam,
    keras.optimizers.Ftrl,
    keras.optimizers.Lion,
)


@runtime_checkable
class ChecksTrainingLength(Protocol):
    """An optimizer that needs a training of some length. `Prune` asks it before the first step."""

    def check_training_length(self, steps: int) -> None:
        """Warn or raise if the next `steps` optimizer steps are too few."""


def check_inner(inner):
    """Return the optimizer, or refuse one that `SparseOptimizer` cannot wrap."""
    if isinstance(inner, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "SparseOptimizer goes inside LossScaleOptimizer, which skips steps that must not prune: write "
            "LossScaleOptimizer(SparseOptimizer(inner_optimizer, ...))."
        )
    if not isinstance(inner, keras.optimizers.Optimizer):
        raise ValueError(f"inner_optimizer={inner!r}: expected a Keras 3 optimizer or its name, for example 'adam'.")
    if hasattr(inner, "inner_optimizer"):
        raise ValueError(f"{inner.name!r} wraps an optimizer already: wrap its inner_optimizer instead.")
    return inner


def check_total_steps(steps: int | None) -> int | None:
    """Return the number of steps, or refuse one that is too small for a schedule."""
    if steps is not None and (isinstance(steps, bool) or int(steps) != steps or steps < 2):
        raise ValueError(
            f"total_steps={steps!r}: expected at least 2 training steps (epochs x steps per epoch), "
            "for example total_steps=10_000."
        )
    return None if steps is None else int(steps)


def variables_of_step(optimizer, gradients: Sequence, variables: Sequence | None) -> list:
    """Return the variables that one call of `apply` changes. The first call builds the optimizer on them.

    Args:
        optimizer: The optimizer that was called.
        gradients: The gradients that it was called with.
        variables: The variables that it was called with; None: all that it was built on.

    Returns:
        As many variables as gradients.

    Raises:
        ValueError: If it was built on other variables, or if there is not one gradient per variable.
    """
    known = list(keras_internals.trained_variables(optimizer) if variables is None else variables)
    if len(gradients) != len(known):
        raise ValueError(
            f"{optimizer.name}.apply got {len(gradients)} gradients for {len(known)} variables: expected one each, "
            "optimizer.apply(gradients, model.trainable_variables)."
        )
    if not optimizer.built:
        with keras.name_scope(optimizer.name):
            optimizer.build(known)
    keras_internals.check_known(optimizer, known)
    return known


def couples_coordinates(inner, variables) -> bool:
    """Return whether the gradient of a pruned weight could change another weight.

    If so, `gradient * mask` must be given to the inner optimizer. Otherwise this product is left out: the result is the
    same without it.

    Args:
        inner: The inner optimizer.
        variables: The pruned variables.

    Returns:
        True for clipping by norm, averages, constraints, and optimizers that are not known to be coordinate-wise.
    """
    norms = inner.clipnorm is not None or inner.global_clipnorm is not None
    constrained = any(v.constraint is not None for v in variables)
    return type(inner) not in _COORDINATEWISE or norms or inner.use_ema or constrained
