"""ToST: smooth activations while training, and other help for sparse networks that works with every pruner."""

from tfsparse.methods.tost.activation import SmoothReLU
from tfsparse.methods.tost.callback import ToST
from tfsparse.methods.tost.conversion import tost
from tfsparse.methods.tost.ghost_skip import GhostSkip, ghost_skips
from tfsparse.methods.tost.initialization import gradinit
from tfsparse.methods.tost.loss import SmoothedCrossentropy

__all__ = ["GhostSkip", "SmoothReLU", "SmoothedCrossentropy", "ToST", "ghost_skips", "gradinit", "tost"]
