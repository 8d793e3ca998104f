"""Channels that belong together, and models made smaller by whole channels."""

from tfsparse.structure.channels import Channels, Group
from tfsparse.structure.shrinking import mask_channels, shrink
from tfsparse.structure.slimming import slim

__all__ = ["Channels", "Group", "mask_channels", "shrink", "slim"]
