"""From a sparse model to files."""

from tfsparse.export.saved_model import export
from tfsparse.export.sizes import Sizes, sizes
from tfsparse.export.tflite import TFLiteFile, export_tflite, inspect_tflite

__all__ = ["Sizes", "TFLiteFile", "export", "export_tflite", "inspect_tflite", "sizes"]
