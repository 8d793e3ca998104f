"""PLL (PLLController): the curvature of the loss decides when pruning starts and how much is pruned."""

from tfsparse.methods.pll.callback import PLL

__all__ = ["PLL"]
