"""Optimizers that prune."""

from tfsparse.optimizers.sparse_optimizer import SparseOptimizer

__all__ = ["SparseOptimizer"]
