"""Add-ons: what changes the steps of the inner optimizer for weights that are pruned."""

from tfsparse.optimizers.addons.addon import Addon, GradientAddon, WeightAddon, addons, get, get_all, names
from tfsparse.optimizers.addons.ham import HAM
from tfsparse.optimizers.addons.sparse_opt import SparseOpt

__all__ = ["HAM", "Addon", "GradientAddon", "SparseOpt", "WeightAddon", "addons", "get", "get_all", "names"]
