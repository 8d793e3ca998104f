"""DST: pruning by trainable thresholds."""

from tfsparse.methods.dst.callback import DST
from tfsparse.methods.dst.conversion import dst
from tfsparse.methods.dst.layer import Thresholded
from tfsparse.methods.dst.target_callback import unfinished

__all__ = ["DST", "Thresholded", "dst", "unfinished"]
