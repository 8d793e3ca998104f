"""Entry of the command `tfsparse`. It is outside of the package, whose import takes seconds."""

import signal


def main() -> None:
    """Import the package and run the command line. Until it runs, Ctrl-C ends the process at once, without a word."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tfsparse.experiments import cli

    run = cli.load()
    signal.signal(signal.SIGINT, handler)
    run()
