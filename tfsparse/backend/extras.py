"""Optional packages: imported where they are used, with an error that says how to install them."""

import importlib
import types


def require(module: str, extra: str) -> types.ModuleType:
    """Import and return a module of an optional package.

    Args:
        module: Name of the module, such as `"matplotlib.pyplot"`.
        extra: Extra of tfsparse that brings it, such as `"plot"`.

    Returns:
        The module.

    Raises:
        ImportError: If the module is not installed. The message names the line to run.
        ModuleNotFoundError: If the package is installed but one that it needs itself is not.

    Examples:
        >>> require("math", "plot").sqrt(4.0)
        2.0
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise
        raise ImportError(
            f"This needs {module}, which is not installed. Run: pip install 'tfsparse[{extra}]'"
        ) from error
