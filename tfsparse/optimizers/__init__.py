"""Optimizers that prune."""

from tfsparse.optimizers.gsm import GSM
from tfsparse.optimizers.sparse_optimizer import SparseOptimizer

__all__ = ["GSM", "SparseOptimizer"]
