"""Filters of the smallest L1 norm are removed while the network trains."""

from tfsparse.methods.filter_pruning.driver import FilterPruning

__all__ = ["FilterPruning"]
