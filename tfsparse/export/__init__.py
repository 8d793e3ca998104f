"""From a sparse model to files."""
