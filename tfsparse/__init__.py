"""tfsparse: pruning in training for Keras.

A pruner says which weights live, a schedule says when and how many, and `SparseOptimizer` makes it true after every
update.

Examples:
    >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("one_cycle", sparsity=0.9)])
    >>> print(tfsparse.report(model))
    >>> tfsparse.export(model, "out")
"""

import importlib
import types

from tfsparse.callbacks.at_target import AtTarget
from tfsparse.callbacks.prune import Prune
from tfsparse.callbacks.sparsity_logger import SparsityLogger
from tfsparse.consistency.mask_store import MaskStore
from tfsparse.doctor.diagnosis import Diagnosis, doctor
from tfsparse.doctor.frontier import Frontier, frontier
from tfsparse.doctor.planning import Plan, plan
from tfsparse.export.saved_model import export
from tfsparse.export.sizes import sizes
from tfsparse.export.tflite import export_tflite, inspect_tflite
from tfsparse.methods.activation_density import ActivationDensity
from tfsparse.methods.dst import DST, Thresholded, dst
from tfsparse.methods.feature_relevance import FeatureRelevance
from tfsparse.methods.filter_pruning import FilterPruning
from tfsparse.methods.free_tickets import EnsembleQuality, FreeTickets, FreeTicketsRate, ensemble, evaluate_ensemble
from tfsparse.methods.gsm import GSM, PruneGSM
from tfsparse.methods.pll import PLL
from tfsparse.methods.tost import GhostSkip, SmoothedCrossentropy, SmoothReLU, ToST, ghost_skips, gradinit, tost
from tfsparse.optimizers.addons import HAM, SparseOpt
from tfsparse.optimizers.compiled_model import sparsify
from tfsparse.optimizers.fixed_masks import keep_zeros
from tfsparse.optimizers.learning_rates import OneCycleAdam, OneCycleAdamW, OneCycleRate, OneCycleSGD, StepRate
from tfsparse.optimizers.lora import merge_lora
from tfsparse.optimizers.masked_layer import finalize
from tfsparse.optimizers.nested import at
from tfsparse.optimizers.one_shot import prune, winning_ticket
from tfsparse.optimizers.recalibration import recalibrate
from tfsparse.optimizers.sparse_optimizer import SparseOptimizer
from tfsparse.pruners import SET, Feather, Magnitude, Random, RigL, Saliency
from tfsparse.reporting.report import Report, report
from tfsparse.reporting.sensitivity import ChannelSensitivity, Sensitivity, channel_sensitivity, sensitivity
from tfsparse.schedules import (
    ACDC,
    DSD,
    Auto,
    Constant,
    Cosine,
    Iterative,
    Linear,
    Nested,
    OneCycle,
    OneShot,
    Polynomial,
    SoftBound,
)
from tfsparse.structured import Channels, mask_channels, shrink, slim
from tfsparse.version import __version__

# What is imported above is public; a method is one line there.
__all__ = sorted(
    name for name, value in globals().items() if not name.startswith("_") and not isinstance(value, types.ModuleType)
)
__all__ += ["__version__"]


def __getattr__(name: str):
    """`tfsparse.tfmot` is imported when it is asked for: TFMOT changes what `tf.keras` means."""
    if name == "tfmot":
        return importlib.import_module("tfsparse.tfmot")
    raise AttributeError(f"module 'tfsparse' has no attribute {name!r}")
