"""Optional packages: imported where they are used, with an error that says how to install them."""

import importlib
import types


class MissingExtra(ImportError):
    """An optional package is not installed. The message names the line to run."""


def require(module: str, extra: str) -> types.ModuleType:
    """Import and return a module that is, or itself imports, an optional package.

    Args:
        module: Name of the module: `"matplotlib.pyplot"`, or one of tfsparse that imports optional packages.
        extra: Extra of tfsparse that installs what is missing, such as `"plot"`.

    Returns:
        The module.

    Raises:
        MissingExtra: If the module, or an optional package that a module of tfsparse imports, is not installed.
        ModuleNotFoundError: If an installed package lacks another package that it needs.

    Examples:
        >>> require("math", "plot").sqrt(4.0)
        2.0
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package, missing = (name.partition(".")[0] for name in (module, error.name or ""))
        if (package == missing) == (package == "tfsparse"):
            raise
        raise MissingExtra(
            f"This needs {error.name}, which is not installed. Run: pip install 'tfsparse[{extra}]'"
        ) from error
