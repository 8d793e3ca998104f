"""Callbacks for `model.fit`."""

from tfsparse.callbacks.prune import Prune
from tfsparse.callbacks.sparsity_logger import SparsityLogger

__all__ = ["Prune", "SparsityLogger"]
