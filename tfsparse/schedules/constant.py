"""The target from the first step on."""

from keras import ops

from tfsparse.schedules.schedule import Schedule, schedules


@schedules.register
class Constant(Schedule):
    """The target from the first step on; until `end` the masks are looked at again, for pruners that exchange weights.

        schedule(t) = 1

    updates: 100 by default, so that what has grown has time to become large: RigL and SET were made for an exchange
    every 100 steps.
    """

    def __init__(self, end: float = 1.0, updates: int | None = 100):
        super().__init__(0.0, end, updates)

    def progress(self, p):
        return ops.ones_like(p)
