"""Entry of the command `tfsparse`. It imports no optional package, so that it can name the ones that are missing."""

import sys

from tfsparse.backend import extras


def main() -> None:
    """Run the command line; without the packages of `tfsparse[cli]` print the line that installs them."""
    try:
        commands = extras.require("tfsparse.experiments.commands", "cli")
    except extras.MissingExtra as error:
        sys.exit(f"Error: {error}")
    commands.run()
