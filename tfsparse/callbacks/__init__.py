"""Callbacks for `model.fit`."""

from tfsparse.callbacks.dst import DST
from tfsparse.callbacks.pll import PLL
from tfsparse.callbacks.prune import Prune
from tfsparse.callbacks.prune_gsm import PruneGSM
from tfsparse.callbacks.sparsity_logger import SparsityLogger

__all__ = ["DST", "PLL", "Prune", "PruneGSM", "SparsityLogger"]
