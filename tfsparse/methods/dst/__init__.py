"""DST: pruning by trainable thresholds."""

from tfsparse.methods.dst.callback import DST
from tfsparse.methods.dst.conversion import dst, finalize
from tfsparse.methods.dst.layer import Thresholded

__all__ = ["DST", "Thresholded", "dst", "finalize"]
