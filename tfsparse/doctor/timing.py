"""Seconds of functions that take turns, so that each is measured beside the others while the machine's speed drifts."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

SLICE = 0.005  # seconds that a function has before it is another's turn


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

    A round goes through all functions again and again, some milliseconds each, and keeps the median of what each took:
    so a short disturbance touches none of them, and a longer one all.

    Args:
        runs: functions without arguments, by name; each is called three times before, to warm up.
        rounds: how often each is measured, at least 1.
        window: seconds that each has in a round; it is called once at least.

    >>> turns({"dense": dense, "sparse": sparse}, rounds=7, window=0.1)["dense"][0]
    (0.0021, 0.0021)
    """
    expected = {name: _expected(run) for name, run in runs.items()}
    calls = {name: max(1, round(min(SLICE, window) / seconds)) for name, seconds in expected.items()}
    passes = max(1, round(window / max(SLICE, *expected.values())))
    result = {name: [] for name in runs}
    for turn in range(rounds):
        names = list(runs)
        order = names[turn % len(names) :] + names[: turn % len(names)]
        slices = [{name: _measured(runs[name], calls[name]) for name in order} for _ in range(passes)]
        for name in order:
            wall, processor = zip(*(measured[name] for measured in slices), strict=True)
            result[name].append((statistics.median(wall), statistics.median(processor)))
    return result


def _expected(run):
    for _ in range(3):
        run()
    return _measured(run, 3)[0]


def _measured(run, calls):
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(calls):
        run()
    return (time.perf_counter() - wall) / calls, (time.process_time() - processor) / calls
