"""Layers that prune themselves."""

from tfsparse.layers.models import dst, finalize
from tfsparse.layers.thresholded import Thresholded

__all__ = ["Thresholded", "dst", "finalize"]
