"""What do TFMOT's pruning wrapper and ours cost on the same model: per step, per mask update, between replicas?

Same models, same PolynomialDecay, one process, dense and sparse in turns (see step_overhead.py for why). Three tables:
the step, as a multiple of the dense step, with masks recomputed at every step and at every 100th (TFMOT's default); one
update of all masks; and the bytes that each replica hands to a reduction per step under a MirroredStrategy of two
logical CPUs, counted where the strategy reduces.

    python benchmarks/tfmot_side_by_side.py --out benchmarks/results/tfmot_side_by_side.json
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import machine
import numpy as np
import rich.console
import rich.table
import step_overhead as steps
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

import tfsparse.tfmot
from tfsparse import testing

WRAPPERS = {"TFMOT": tfmot.sparsity.keras.prune_low_magnitude, "ours": tfsparse.tfmot.prune_low_magnitude}
FREQUENCIES = {"every step": 1, "every 100th": 100}
PACKAGES = ("tensorflow", "tf_keras", "tensorflow-model-optimization", "keras")


class CountingReduction(tf.distribute.ReductionToOneDevice):
    """Counts the bytes that one replica hands over, each time a reduction is traced."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def reduce(self, reduce_op, per_replica_value, destinations, options=None):
        self._count(per_replica_value)
        return super().reduce(reduce_op, per_replica_value, destinations, options)

    def batch_reduce(self, reduce_op, value_destination_pairs, options=None):
        for value, _ in value_destination_pairs:
            self._count(value)
        return super().batch_reduce(reduce_op, value_destination_pairs, options)

    def _count(self, value):
        for tensor in tf.nest.flatten(getattr(value, "values", value))[:1]:
            self.bytes += tensor.shape.num_elements() * tensor.dtype.size


def schedule(frequency: int):
    """TFMOT's polynomial decay, in the middle of which all is measured."""
    return tfmot.sparsity.keras.PolynomialDecay(0.0, steps.SPARSITY, 0, steps.TOTAL_STEPS, frequency=frequency)


def build(name: str, wrap) -> tf_keras.Model:
    """The compiled model with the layers that have kernels given to `wrap`."""
    model = steps.tf_keras_model(tf_keras, name, wrap)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf_keras.optimizers.SGD(1e-3, momentum=0.9), loss=loss)
    return model


def step_times(name: str, rounds: int) -> dict:
    """Seconds per step and ratios to the dense step of the same round."""
    shape = steps.SHAPES[name]
    fits = {"dense": steps.stopwatch(tf_keras, build(name, lambda layer: layer), shape, [])}
    for who, wrap in WRAPPERS.items():
        for when, frequency in FREQUENCIES.items():
            model = build(name, lambda layer, wrap=wrap, f=frequency: wrap(layer, schedule(f)))
            _to_the_middle(model)
            callbacks = [tfmot.sparsity.keras.UpdatePruningStep()]
            fits[f"{who}, {when}"] = steps.stopwatch(tf_keras, model, shape, callbacks)
    for fit in fits.values():
        fit(3)
    seconds = {variant: [] for variant in fits}
    for turn in range(rounds):
        names = list(fits)
        for variant in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[variant].append(fits[variant](100 if "100th" in variant else 10))
    return {
        clock: steps.ratios({variant: [t[i] for t in times] for variant, times in seconds.items()})
        for i, clock in enumerate(steps.CLOCKS)
    }


def _to_the_middle(model):
    for wrapper in tfsparse.tfmot.kernels.wrappers(model):
        wrapper.pruning_step.assign(steps.MIDDLE)


def update_times(name: str, rounds: int) -> dict:
    """Seconds of one update of all masks, in turns."""
    updates = {}
    for who, wrap in WRAPPERS.items():
        model = build(name, lambda layer, wrap=wrap: wrap(layer, schedule(1)))
        _to_the_middle(model)
        updates[who] = _update(model)
    seconds = {who: [] for who in updates}
    for _ in range(rounds + 1):
        for who, update in updates.items():
            begun = time.perf_counter()
            update()
            seconds[who].append(time.perf_counter() - begun)
    return {who: steps.spread(times[1:]) for who, times in seconds.items()}  # the first one compiles


def _update(model):
    objects = [wrapper.pruning_obj for wrapper in tfsparse.tfmot.kernels.wrappers(model)]

    @tf.function(autograph=False)
    def update():
        for pruning in objects:
            pruning.conditional_mask_update()

    return update


def reduced_bytes(name: str) -> dict:
    """Bytes that a replica hands to reductions in one step: gradients and the loss; with TFMOT also the weights."""
    result = {}
    for who, wrap in {"dense": lambda layer, _: layer, **WRAPPERS}.items():
        counting = CountingReduction()
        devices = [d.name for d in tf.config.list_logical_devices("CPU")]
        strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=counting)
        with strategy.scope():
            model = build(name, lambda layer, wrap=wrap: wrap(layer, schedule(100)))
        if who != "dense":
            _to_the_middle(model)
        result[who] = _bytes_of_a_step(model, strategy, counting, steps.SHAPES[name])
    weights = sum(w.shape.num_elements() * 4 for w in model.trainable_weights if w.shape.rank > 1)
    return result | {"pruned weights": weights}


def _bytes_of_a_step(model, strategy, counting, shape) -> int:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(4, *shape)).astype("float32"), random.integers(0, 10, 4)
    batch = tf.data.Dataset.from_tensors((x, y)).repeat()
    iterator = iter(strategy.experimental_distribute_dataset(batch))
    step = tf.function(lambda data: strategy.run(model.train_step, args=(data,)), autograph=False)
    model.optimizer.build(model.trainable_variables)
    counting.bytes = 0
    step.get_concrete_function(next(iterator))
    return counting.bytes


def tables(results: dict) -> list[rich.table.Table]:
    """The three tables."""
    variants = [f"{who}, {when}" for when in FREQUENCIES for who in WRAPPERS]
    step = rich.table.Table(title=f"Step over dense step, batch {steps.BATCH_SIZE}, wall clock: median (min to max)")
    for column in ("model", "dense, ms", *variants):
        step.add_column(column)
    update = rich.table.Table(title="One update of all masks, ms: median (min to max)")
    for column in ("model", *WRAPPERS, "ratio"):
        update.add_column(column)
    reduced = rich.table.Table(title="Bytes handed to reductions by a replica in one step, two replicas")
    for column in ("model", "dense", *WRAPPERS, "ours beyond dense"):
        reduced.add_column(column)
    for name, r in results["models"].items():
        ratios, seconds = r["step"]["wall"]["ratio_to_dense"], r["step"]["wall"]["seconds_per_step"]
        step.add_row(name, f"{1e3 * seconds['dense']['median']:.1f}", *(steps.ratio(ratios[v]) for v in variants))
        times = [r["update"][who] for who in WRAPPERS]
        update.add_row(name, *(_milliseconds(t) for t in times), f"{times[0]['median'] / times[1]['median']:.1f}")
        b = r["bytes"]
        reduced.add_row(name, *(f"{b[who]:,}" for who in ("dense", *WRAPPERS)), f"{b['ours'] - b['dense']:,}")
    return [step, update, reduced]


def _milliseconds(t: dict) -> str:
    return f"{1e3 * t['median']:.1f} ({1e3 * t['min']:.1f} to {1e3 * t['max']:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="where to write the JSON")
    parser.add_argument("--models", nargs="+", choices=steps.SHAPES, default=list(steps.SHAPES))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    testing.split_cpu()
    results = {"machine": machine.describe(), "versions": machine.versions(*PACKAGES), "rounds": options.rounds}
    results["models"] = {}
    for name in options.models:
        results["models"][name] = {
            "step": step_times(name, options.rounds),
            "update": update_times(name, options.rounds),
            "bytes": reduced_bytes(name),
        }
        if options.out:
            machine.write(options.out, results | {"machine_after": machine.describe()})
    for table in tables(results):
        rich.console.Console(width=120).print(table)


if __name__ == "__main__":
    main()
