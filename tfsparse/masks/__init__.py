"""Masks from scores: numerics only."""

from tfsparse.masks.granularity import Granularity, granularities
from tfsparse.masks.topk import global_masks, topk_mask

__all__ = ["Granularity", "global_masks", "granularities", "topk_mask"]
