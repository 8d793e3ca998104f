"""PLL: the curvature of the loss decides when pruning starts and how much is pruned."""

from tfsparse.methods.pll.callback import PLL, unfinished
from tfsparse.methods.pll.rules import milestones

__all__ = ["PLL", "milestones", "unfinished"]
