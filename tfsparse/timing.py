"""Seconds of functions that take turns, so that each is measured beside the others while the machine's speed drifts."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Spread:
    """Least, middle and largest."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of some numbers."""
        return cls(min(values), statistics.median(values), max(values))


def turns(runs: Mapping[str, Callable[[], object]], rounds: int, window: float) -> dict[str, list[tuple[float, float]]]:
    """Seconds per call, by the clock and by the processor's time, in each round; every round begins with another.

    Args:
        runs: functions without arguments, by name; each is called three times before, to warm up.
        rounds: how often each is measured, at least 1.
        window: seconds of one measurement, which has as many calls as go into it, at least one.

    >>> turns({"dense": dense, "sparse": sparse}, rounds=7, window=0.1)["dense"][0]
    (0.0021, 0.0021)
    """
    calls = {name: _calls(run, window) for name, run in runs.items()}
    seconds = {name: [] for name in runs}
    for turn in range(rounds):
        names = list(runs)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(_measured(runs[name], calls[name]))
    return seconds


def _calls(run, window):
    for _ in range(3):
        run()
    return max(1, round(window / _measured(run, 3)[0]))


def _measured(run, calls):
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(calls):
        run()
    return (time.perf_counter() - wall) / calls, (time.process_time() - processor) / calls
