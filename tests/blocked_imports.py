"""Packages that a process shall not find, as if they were not installed."""


def blocked(packages) -> str:
    """Return Python code that makes imports of `packages` fail in the process that runs it."""
    return f"""
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {tuple(packages)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
