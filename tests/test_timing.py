"""Turns, counted: what they take is no business of a test."""

from tfsparse import timing


def test_every_round_begins_with_another():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = timing.turns(runs, rounds=4, window=0.0)  # one call fills it
    warm = [name for name in "abc" for _ in range(6)]  # three to warm up, three to see how long they take
    assert calls == [*warm, *"abc", *"bca", *"cab", *"abc"]
    assert {name: len(pairs) for name, pairs in seconds.items()} == dict.fromkeys("abc", 4)
    assert all(wall >= 0 and processor >= 0 for pairs in seconds.values() for wall, processor in pairs)


def test_a_window_is_filled_with_calls(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))  # a second between two looks
    calls = []
    seconds = timing.turns({"a": lambda: calls.append(1)}, rounds=2, window=4.0)
    assert len(calls) == 3 + 3 + 2 * 12  # a call takes a third of a second
    assert [wall for wall, _ in seconds["a"]] == [1 / 12, 1 / 12]


def test_spread():
    assert timing.Spread.of([3.0, 1.0, 2.0, 9.0]) == timing.Spread(1.0, 2.5, 9.0)
