"""The TFMOT road: everything for `tf_keras` models that are wrapped by `prune_low_magnitude`.

Examples:
    >>> model = tfsparse.tfmot.prune_low_magnitude(model)
    >>> model.compile("adam", loss="mse")
    >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.tfmot.Prune("one_cycle", sparsity=0.9)])
    >>> tfsparse.tfmot.strip_pruning(model).save("pruned.keras")
"""

from tfsparse import methods
from tfsparse.tfmot import requirements  # noqa: F401  first: it says what is missing
from tfsparse.tfmot.at_target import AtTarget
from tfsparse.tfmot.callbacks import Prune
from tfsparse.tfmot.convert import from_keras3, to_keras3
from tfsparse.tfmot.prune import prune_low_magnitude, scope, strip_pruning
from tfsparse.tfmot.schedules import (
    DSD,
    Constant,
    Cosine,
    Iterative,
    Linear,
    OneCycle,
    OneShot,
    Polynomial,
    StepSchedule,
)
from tfsparse.tfmot.wrapper import PruneLowMagnitude
from tfsparse.tfmot.zeros import keep_zeros

__all__ = [
    "DSD",
    "AtTarget",
    "Constant",
    "Cosine",
    "Iterative",
    "Linear",
    "OneCycle",
    "OneShot",
    "Polynomial",
    "Prune",
    "PruneLowMagnitude",
    "StepSchedule",
    "from_keras3",
    "keep_zeros",
    "prune_low_magnitude",
    "scope",
    "strip_pruning",
    "to_keras3",
]

for _module in methods.modules_in("tfsparse.tfmot.methods").values():  # GSM, PruneGSM, PLL, DST, ...
    globals().update({name: getattr(_module, name) for name in _module.__all__})
    __all__ += _module.__all__
