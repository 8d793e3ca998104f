"""From a sparse model to files."""

from tfsparse.export.saved_model import export
from tfsparse.export.sizes import Sizes, sizes

__all__ = ["Sizes", "export", "sizes"]
