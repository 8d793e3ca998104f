"""Entry of the command `tfsparse`. It imports no optional package, so that it can name the ones that are missing."""

import sys
from collections.abc import Callable

from tfsparse.backend import extras


def load() -> Callable[[], None]:
    """Return the function that runs the command line; without the packages of `tfsparse[cli]` print how to get them."""
    try:
        return extras.require("tfsparse.experiments.commands", "cli").run
    except extras.MissingExtra as error:
        sys.exit(f"Error: {error}")


def main() -> None:
    """Run the command line."""
    load()()
