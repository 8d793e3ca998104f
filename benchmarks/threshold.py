"""How long does it take to find the threshold at 90 % sparsity in a tensor, without a sort and with one?

`tfsparse.masks.topk_mask` (the exact threshold and the mask, two histograms; with XLA and without) against
`tf.math.top_k` over the whole tensor, which is how TFMOT finds its threshold, and `np.partition`; both of them get the
comparison that makes the mask too. Whole sorts stop at 25 million entries: a hundred million would take minutes.

    python benchmarks/threshold.py --out benchmarks/results/threshold.json
"""

import argparse
import os
import pathlib
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import machine
import numpy as np
import rich.console
import rich.table
import tensorflow as tf

from tfsparse.masks import topk

SPARSITY = 0.9
SIZES = (1_000_000, 5_800_000, 25_000_000, 100_000_000)
LARGEST_SORT = 25_000_000


def methods() -> dict[str, Callable]:
    """Functions from non-negative scores to their mask."""
    return {
        "topk_mask": tf.function(_exact),
        "topk_mask, XLA": tf.function(_exact, jit_compile=True),
        "np.partition": _partition,
        "tf.math.top_k": tf.function(_whole_sort),
    }


def _exact(scores):
    return topk.topk_mask(scores, SPARSITY)


def _whole_sort(scores):
    """As TFMOT does: sort everything, look one value up."""
    size = tf.size(scores)
    kept = size - tf.cast(tf.round(SPARSITY * tf.cast(size, tf.float32)), tf.int32)
    values, _ = tf.math.top_k(scores, k=size)
    return tf.cast(scores >= values[kept - 1], scores.dtype)


def _partition(scores):
    values = scores.numpy()
    pruned = round(SPARSITY * values.size)
    return (values >= np.partition(values, pruned)[pruned]).astype(values.dtype)


def measure(size: int, rounds: int) -> list[dict]:
    """Milliseconds of every method on one tensor, taking turns; and the zeros that each mask has."""
    scores = tf.abs(tf.random.stateless_normal((size,), seed=(0, 1)))
    chosen = {name: f for name, f in methods().items() if name != "tf.math.top_k" or size <= LARGEST_SORT}
    zeros = {name: int(np.sum(np.asarray(f(scores)) == 0)) for name, f in chosen.items()}  # traces too
    times = {name: [] for name in chosen}
    for _ in range(rounds):
        for name, function in chosen.items():
            begun = time.perf_counter()
            np.asarray(function(scores)[:1])  # wait for it
            times[name].append(1000 * (time.perf_counter() - begun))
    return [
        {
            "method": name,
            "size": size,
            "asked_zeros": round(SPARSITY * size),
            "zeros": zeros[name],
            "milliseconds": {"min": min(t), "median": statistics.median(t), "max": max(t)},
        }
        for name, t in times.items()
    ]


def table(rows: list[dict]) -> rich.table.Table:
    """Median milliseconds, one row per method and one column per size."""
    sizes = sorted({row["size"] for row in rows})
    result = rich.table.Table(title=f"A mask of sparsity {SPARSITY:g}: median milliseconds (zeros too many or too few)")
    result.add_column("entries")
    for size in sizes:
        result.add_column(f"{size / 1e6:g} M", justify="right")
    for name in methods():
        cells = {row["size"]: _cell(row) for row in rows if row["method"] == name}
        result.add_row(name, *(cells.get(size, "not run") for size in sizes))
    return result


def _cell(row: dict) -> str:
    return f"{row['milliseconds']['median']:,.1f} ({row['zeros'] - row['asked_zeros']:+d})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="where to write the JSON")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    before = machine.describe()
    rows = [row for size in options.sizes for row in measure(size, options.rounds)]
    rich.console.Console(width=110).print(table(rows))
    if options.out:
        versions = machine.versions("tensorflow", "keras", "numpy")
        content = {"sparsity": SPARSITY, "machine": before, "rounds": options.rounds, "rows": rows}
        machine.write(options.out, content | {"largest_sort": LARGEST_SORT, "versions": versions})


if __name__ == "__main__":
    main()
