"""tfsparse: pruning in training for Keras.

A pruner says which weights live, a schedule says when and how many, and `SparseOptimizer` makes it true after every
update.

>>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("one_cycle", sparsity=0.9)])
>>> tfsparse.report(model)
>>> tfsparse.export(model, "out")
"""

import importlib

from tfsparse.activation_density import ActivationDensity
from tfsparse.callbacks import DST, PLL, Prune, PruneGSM, SparsityLogger
from tfsparse.doctor import Diagnosis, Plan, doctor, plan
from tfsparse.export import export, export_tflite, inspect_tflite, sizes
from tfsparse.layers import Thresholded, dst, finalize
from tfsparse.mask_store import MaskStore
from tfsparse.optimizers import GSM, SparseOptimizer
from tfsparse.pruners import SET, Feather, Magnitude, Random, RigL, Saliency
from tfsparse.report import Report, report
from tfsparse.schedules import ACDC, DSD, Constant, Cosine, Iterative, Linear, OneCycle, OneShot, Polynomial
from tfsparse.structure import Channels, mask_channels, shrink, slim
from tfsparse.version import __version__
from tfsparse.wrapping import prune, sparsify, winning_ticket
from tfsparse.zoo import one_cycle as _one_cycle  # noqa: F401  known to Keras when it loads a model trained with them
from tfsparse.zoo import step_rate as _step_rate  # noqa: F401

__all__ = [
    "ACDC",
    "DSD",
    "DST",
    "GSM",
    "PLL",
    "SET",
    "ActivationDensity",
    "Channels",
    "Constant",
    "Cosine",
    "Diagnosis",
    "Feather",
    "Iterative",
    "Linear",
    "Magnitude",
    "MaskStore",
    "OneCycle",
    "OneShot",
    "Plan",
    "Polynomial",
    "Prune",
    "PruneGSM",
    "Random",
    "Report",
    "RigL",
    "Saliency",
    "SparseOptimizer",
    "SparsityLogger",
    "Thresholded",
    "__version__",
    "doctor",
    "dst",
    "export",
    "export_tflite",
    "finalize",
    "inspect_tflite",
    "mask_channels",
    "plan",
    "prune",
    "report",
    "shrink",
    "sizes",
    "slim",
    "sparsify",
    "winning_ticket",
]


def __getattr__(name: str):
    """`tfsparse.tfmot` is imported when it is asked for: TFMOT changes what `tf.keras` means."""
    if name == "tfmot":
        return importlib.import_module("tfsparse.tfmot")
    raise AttributeError(f"module 'tfsparse' has no attribute {name!r}")
