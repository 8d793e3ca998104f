"""One folder per paper: everything of a method that is not a pruner or a schedule alone.

A method may also have a file of its name in `tfsparse/tfmot/methods/` and in `tfsparse/experiments/methods/`. These
files are found by name, so removing a method means removing its folder here and its line in `tfsparse/__init__.py`.
"""

import importlib
import pkgutil
import types


def names() -> list[str]:
    """Return the methods that are there: the names of the folders in this package."""
    return [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg]


def modules_in(package: str) -> dict[str, types.ModuleType]:
    """Return `{method: module}` for the modules of a package that are named as a method that is there.

    Args:
        package: For example "tfsparse.tfmot.methods".

    Returns:
        The imported modules, in alphabetical order.
    """
    path = importlib.import_module(package).__path__
    found = [module.name for module in pkgutil.iter_modules(path) if module.name in names()]
    return {name: importlib.import_module(f"{package}.{name}") for name in found}
