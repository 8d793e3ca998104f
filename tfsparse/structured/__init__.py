"""Coupled channels, and models that are made smaller by removing whole channels."""

from tfsparse.structured.channels import Channels, Group
from tfsparse.structured.shrinking import mask_channels, shrink
from tfsparse.structured.slimming import slim

__all__ = ["Channels", "Group", "mask_channels", "shrink", "slim"]
