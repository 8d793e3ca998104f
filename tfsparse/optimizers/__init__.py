"""Optimizers that keep masks, and learning rates."""

from tfsparse.optimizers.sparse_optimizer import SparseOptimizer

__all__ = ["SparseOptimizer"]
