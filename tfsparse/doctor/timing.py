"""Seconds of several functions, measured in turns: the drifting speed of the machine affects all of them alike."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

TURN = 0.005  # seconds of one turn of a function
WARM_UP_CALLS = 3


@dataclasses.dataclass(frozen=True)
class Summary:
    """Smallest number, median and largest number of several measurements."""

    min: float
    median: float
    max: float


def summarize(values: Sequence[float]) -> Summary:
    """Return the summary of some numbers."""
    return Summary(min(values), statistics.median(values), max(values))


def time_in_turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, window: float
) -> dict[str, list[tuple[float, float]]]:
    """Return seconds per call in each round, by the clock and by the processor's time.

    Within a round all functions run again and again, some milliseconds each. The round keeps the median of what each
    took: a short disturbance affects no result, and a longer one affects all. Every round begins with another function.

    Args:
        runs: Functions without arguments, by name. Each is called three times before, to warm up.
        rounds: Number of rounds, at least 1.
        window: Seconds that each function runs in a round. It runs at least once.

    Returns:
        For each name a list with one pair (wall seconds, processor seconds) per round.

    Examples:
        >>> time_in_turns({"dense": dense, "sparse": sparse}, rounds=7, window=0.1)["dense"][0]
        (0.0021, 0.0021)
    """
    expected = {name: _expected_seconds(run) for name, run in runs.items()}
    calls = {name: max(1, round(min(TURN, window) / seconds)) for name, seconds in expected.items()}
    num_turns = max(1, round(window / max(TURN, *expected.values())))
    names, result = list(runs), {name: [] for name in runs}
    for i in range(rounds):
        order = names[i % len(names) :] + names[: i % len(names)]
        turns = [{name: _seconds_per_call(runs[name], calls[name]) for name in order} for _ in range(num_turns)]
        for name in order:
            wall, processor = zip(*(turn[name] for turn in turns), strict=True)
            result[name].append((statistics.median(wall), statistics.median(processor)))
    return result


def _expected_seconds(run):
    for _ in range(WARM_UP_CALLS):
        run()
    return _seconds_per_call(run, 3)[0]


def _seconds_per_call(run, calls):
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(calls):
        run()
    return (time.perf_counter() - wall) / calls, (time.process_time() - processor) / calls
