"""From a sparse model to files."""

from tfsparse.export.saved_model import export

__all__ = ["export"]
