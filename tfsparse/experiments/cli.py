"""Entry to the commands. It imports no optional package, so that it can name the ones that are missing."""

import sys
import types

from tfsparse.backend import extras


def load() -> types.ModuleType:
    """Return the module of the commands; without the packages of `tfsparse[cli]` print how to get them."""
    try:
        return extras.require("tfsparse.experiments.commands", "cli")
    except extras.MissingExtra as error:
        sys.exit(f"Error: {error}")
