"""A run or a model as one HTML page that needs nothing else: no network, no script."""

from tfsparse.reporting.page.rendering import render, write

__all__ = ["render", "write"]
