"""Entry of the command `tfsparse`. It is outside of the package, whose import takes seconds: help needs none of it."""


def main() -> None:
    """Run the command line; without the packages of `tfsparse[cli]` print how to get them."""
    try:
        from tfsparse_command import app
    except ModuleNotFoundError:
        from tfsparse_command.package import load_commands

        load_commands()  # it names the extra
        raise
    app.run()
