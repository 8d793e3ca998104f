"""The same amount at every update."""

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class Linear(Schedule):
    """The same amount at every update.

        progress(p) = p
    """

    def progress(self, p):
        return p
