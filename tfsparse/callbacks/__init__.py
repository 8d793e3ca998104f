"""What is passed to `model.fit(callbacks=[...])`."""

from tfsparse.callbacks.at_target import AtTarget
from tfsparse.callbacks.prune import Prune
from tfsparse.callbacks.sparsity_logger import SparsityLogger

__all__ = ["AtTarget", "Prune", "SparsityLogger"]
