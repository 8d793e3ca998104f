"""What an optimizer must be before it is wrapped."""

from typing import Protocol, runtime_checkable

import keras

_COORDINATEWISE = (
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
    """Refuse optimizers that cannot be inside."""
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
    """Refuse a training too short for a schedule."""
    if steps is not None and (isinstance(steps, bool) or int(steps) != steps or steps < 2):
        raise ValueError(
            f"total_steps={steps!r}: expected at least 2 training steps (epochs x steps per epoch), "
            "for example total_steps=10_000."
        )
    return None if steps is None else int(steps)


def couples_coordinates(inner, variables) -> bool:
    """Could the gradient of a pruned weight change another weight? Then it must not reach the inner optimizer.

    Optimizers known to treat every coordinate alone are spared the product: the result is the same.
    """
    alone = type(inner) in _COORDINATEWISE
    norms = inner.clipnorm is not None or inner.global_clipnorm is not None
    return not alone or norms or inner.use_ema or any(v.constraint is not None for v in variables)
