"""One folder per paper: everything of a method that is not a pruner or a schedule alone.

A method may also have a file of its name in `tfsparse/tfmot/methods/` and in `tfsparse/experiments/methods/`. These
files are found by name, so removing a method means removing its folder here and its line in `tfsparse/__init__.py`.
"""

import importlib
import pkgutil
import types

from tfsparse.optimizers import compiled_model


def unfinished(model) -> str | None:
    """Return one sentence if a model is from before the target of its training was reached, else None.

    A method that keeps its target in its callback has a function `unfinished(model)` that returns the same for its
    trainings. The schedule of a `SparseOptimizer` is asked first.

    Args:
        model: A model of Keras 3.
    """
    methods = (importlib.import_module(f"{__name__}.{name}") for name in names())
    asked = (getattr(method, "unfinished", None) for method in methods)
    sentences = (function(model) for function in (compiled_model.unfinished, *asked) if function)
    return next(filter(None, sentences), None)


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
