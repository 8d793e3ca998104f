"""Turns are counted with a clock that ticks at every look."""

from tfsparse.doctor import timing


def test_every_round_begins_with_another_function():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = timing.time_in_turns(runs, rounds=4, window=0.0)  # one call fills it
    warm = [name for name in "abc" for _ in range(6)]  # three to warm up, three to see how long they take
    assert calls == [*warm, *"abc", *"bca", *"cab", *"abc"]
    assert {name: len(pairs) for name, pairs in seconds.items()} == dict.fromkeys("abc", 4)
    assert all(wall >= 0 and processor >= 0 for pairs in seconds.values() for wall, processor in pairs)


def clock_that_ticks(monkeypatch, seconds):
    """Let the clock advance by so many seconds whenever it is read."""
    readings = iter(range(10**6))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: seconds * next(readings))


def test_a_window_is_filled_with_calls(monkeypatch):
    clock_that_ticks(monkeypatch, 1.0)
    calls = []
    seconds = timing.time_in_turns({"a": lambda: calls.append(1)}, rounds=2, window=4.0)
    assert len(calls) == 3 + 3 + 2 * 12  # a call takes a third of a second
    assert [wall for wall, _ in seconds["a"]] == [1.0, 1.0]


def test_short_calls_take_turns_in_slices(monkeypatch):
    clock_that_ticks(monkeypatch, 0.003)
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
    timing.time_in_turns(runs, rounds=2, window=0.02)  # a call takes a millisecond
    first, second = ["a"] * 5 + ["b"] * 5, ["b"] * 5 + ["a"] * 5
    assert calls[12:] == [*first * 4, *second * 4]


def test_a_short_disturbance_does_not_change_a_round(monkeypatch):
    times = iter([0.0, 0.003, *(t for i in range(5) for t in (i, i + (0.9 if i == 2 else 0.005)))])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(times))
    ((wall, _),) = timing.time_in_turns({"a": lambda: None}, rounds=1, window=0.025)["a"]
    assert abs(wall - 0.001) < 1e-9


def test_a_summary_has_minimum_median_and_maximum():
    assert timing.summarize([3.0, 1.0, 2.0, 9.0]) == timing.Summary(1.0, 2.5, 9.0)
