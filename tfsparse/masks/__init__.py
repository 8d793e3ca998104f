"""Masks from scores: numerics only."""

from tfsparse.masks.topk import global_masks, topk_mask

__all__ = ["global_masks", "topk_mask"]
