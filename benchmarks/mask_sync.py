"""What does it cost to keep the masks of ResNet-50's 25.5 million pruned weights equal on two replicas?

Four ways, timed in turns in one process, under a MirroredStrategy of two logical CPUs:
- digest: what `Prune` does before each mask update, the checksum of every mask on every replica, compared.
- push/pull: `MaskStore` with each policy that merges what replicas propose; one event.
- TFMOT: what its stock wrapper does in *every* step, `batch_reduce_to(MEAN, weight * mask)` of all pruned weights, as
  in its `pruning_impl.weight_mask_op`, and the assignment of the result.
Bytes are what each replica sends. With masks updated in every `PERIOD`-th step, as by default in a training of 10,000,
one event of ours stands against `PERIOD` reductions; the ratios say how many times less it costs.

    python benchmarks/mask_sync.py --out benchmarks/results/mask_sync.json
"""

import argparse
import os
import pathlib
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import machine
import numpy as np
import rich.console
import rich.table
import tensorflow as tf

from tfsparse import MaskStore, testing
from tfsparse.consistency.checks import check_masks
from tfsparse.consistency.mask_store import SyncStats
from tfsparse.pruners import selection

SPARSITY, PERIOD = 0.9, 10
TFMOT = "TFMOT, every step"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="where to write the JSON")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    testing.split_cpu()
    results = measure(shapes(), options.rounds)
    if options.out:
        machine.write(options.out, results)
    rich.console.Console(width=110).print(table(results))


def shapes() -> list[tuple[int, ...]]:
    """Of ResNet-50's kernels."""
    model = keras.applications.ResNet50(weights=None)
    found = [tuple(v.shape) for v in model.trainable_variables if selection.is_prunable(v)]
    keras.backend.clear_session()
    return found


def measure(sizes: list[tuple[int, ...]], rounds: int) -> dict:
    """Bytes, seconds and ratios of all ways; each round times each of them once."""
    strategy = testing.two_cpu_strategy()
    random = np.random.default_rng(0)
    with strategy.scope():
        masks = [_variable((random.random(s) >= SPARSITY).astype("float32")) for s in sizes]
        weights = [_variable(random.standard_normal(s, "float32")) for s in sizes]
    entries = sum(int(np.prod(s)) for s in sizes)
    ways = ways_to_agree(strategy, weights, masks)
    sent = {name: way() for name, way in ways.items()}  # traces, too
    seconds = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {
        "machine": machine.describe(),
        "versions": machine.versions("tensorflow", "keras", "numpy"),
        "entries": entries,
        "masks": len(sizes),
        "rounds": rounds,
        "period": PERIOD,
        "ways": {name: _row(sent[name], seconds[name], sent[TFMOT], seconds[TFMOT]) for name in ways},
    }


def ways_to_agree(strategy, weights, masks) -> dict[str, Callable[[], int]]:
    """Each does its work once and returns the bytes that a replica sent."""
    names = [str(i) for i in range(len(masks))]

    def digest():
        sync_stats = SyncStats()
        assert check_masks(masks, names, sync_stats=sync_stats) == []
        return sync_stats.bytes

    def push_and_pull(policy):
        store = MaskStore(policy)
        store.push(masks, step=1)
        store.pull(step=1)
        return store.sync_stats.bytes

    reduce = tf.function(lambda: strategy.run(_reduced, (weights, masks)), autograph=False)

    def tfmot():
        reduce()
        return sum(w.shape.num_elements() * w.dtype.size for w in weights)

    stores = {f"push/pull, {policy}": lambda policy=policy: push_and_pull(policy) for policy in MaskStore.policies}
    return {"digest": digest} | stores | {TFMOT: tfmot}


def _variable(value):
    # aggregation as Keras makes weights: TFMOT reduces them itself
    return tf.Variable(value, trainable=False)


def _reduced(weights, masks):
    """The body of TFMOT's `pruning_impl.Pruning._weight_assign_objs` in replica context."""

    def update(strategy, pairs):
        reduced = strategy.extended.batch_reduce_to(tf.distribute.ReduceOp.MEAN, pairs)
        for value, (_, variable) in zip(reduced, pairs, strict=True):
            strategy.extended.update(variable, lambda v, r: v.assign(r), args=(value,))

    pairs = [(tf.math.multiply(weight, mask), weight) for weight, mask in zip(weights, masks, strict=True)]
    tf.distribute.get_replica_context().merge_call(update, args=(pairs,))


def _row(sent: int, seconds: list[float], tfmot_sent: int, tfmot_seconds: list[float]) -> dict:
    """Ratios are TFMOT's cost of `PERIOD` steps over that of one event, each of the same round."""
    ratios = [PERIOD * theirs / ours for ours, theirs in zip(seconds, tfmot_seconds, strict=True)]
    return {
        "bytes": sent,
        "seconds": _spread(seconds) | {"all": seconds},
        "times_fewer_bytes": PERIOD * tfmot_sent / sent,
        "times_less_time": _spread(ratios),
    }


def _spread(values: list[float]) -> dict:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def table(results: dict) -> rich.table.Table:
    """One row per way."""
    result = rich.table.Table(
        title=f"{results['masks']} masks, {results['entries']:,} entries, two replicas; an event every "
        f"{results['period']} steps against TFMOT's reduction in each: median (min to max)"
    )
    for column in ("", "bytes", "ms", "times fewer bytes", "times less time"):
        result.add_column(column, justify="right" if column else "left")
    for name, row in results["ways"].items():
        ms = {k: 1000 * row["seconds"][k] for k in ("median", "min", "max")}
        cells = [f"{row['bytes']:,}", f"{ms['median']:.0f} ({ms['min']:.0f} to {ms['max']:.0f})"]
        if name != TFMOT:
            ratio = row["times_less_time"]
            cells += [f"{row['times_fewer_bytes']:,.0f}", "{median:.0f} ({min:.0f} to {max:.0f})".format(**ratio)]
        result.add_row(name, *cells)
    return result


if __name__ == "__main__":
    main()
