"""What does a sparse training step cost, as a multiple of the dense step of the same framework?

Times `fit` in mid-training of a run of 10,000 steps, target sparsity 0.9, SGD with momentum 0.9, batch 128: ours
(Keras 3, through `tfsparse.Prune`, without XLA as Keras compiles on CPU, with it, and on JAX) and TFMOT (tf_keras,
through `UpdatePruningStep`), with the masks recomputed at every step and as often as each does by default (ours: 1,000
times in a run, so every 10th step; TFMOT: every 100th). Dense and sparse take turns within one process, so that a ratio
is one of neighbours in time and holds while the machine's speed drifts; the ratio of processor times, given beside that
of the clock, says the same where other programs run too.

    python benchmarks/step_overhead.py --out benchmarks/results/step_overhead.json
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import machine
import numpy as np
import rich.console
import rich.table

TOTAL_STEPS, MIDDLE, SPARSITY, BATCH_SIZE = 10_000, 5_000, 0.9, 128
SHAPES = {"mlp": (784,), "resnet_20": (32, 32, 3)}
WIDTHS = (2048, 2048)
# Steps per window: one period of the updates, so that each window holds its share of them and neighbours in time are
# close; the machine's speed may change by a third within seconds, so the windows are short and the rounds many.
WINDOWS = {"dense": 10, "every step": 10, "default": 10}
TFMOT_WINDOWS = WINDOWS | {"default": 100}
FRAMEWORKS = {
    "keras3-xla": "tfsparse, XLA",
    "keras3": "tfsparse, no XLA",
    "keras3-jax": "tfsparse on JAX",
    "tfmot": "TFMOT",
}
CLOCKS = ("wall", "processor")
Measure = Callable[[int], tuple[float, float]]  # steps -> seconds per step by each of the clocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="where to write the JSON")
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        machine.write(options.out, measure(options.frameworks[0], options.models[0], options.rounds))
        return
    results = {"machine": machine.describe(), "rounds": options.rounds, "sparsity": SPARSITY, "measurements": []}
    for model, framework in itertools.product(options.models, options.frameworks):
        results["measurements"].append(_in_process(framework, model, options.rounds))
        results["machine_after"] = machine.describe()
        if options.out:
            machine.write(options.out, results)  # after each, since all of them take long
    for model in options.models:
        rich.console.Console(width=110).print(table(model, results["measurements"]))


def _in_process(framework: str, model: str, rounds: int) -> dict:
    """Keras 3 and tf_keras each in a process of its own: TFMOT changes what tf.keras means."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "result.json"
        arguments = ["--worker", "--frameworks", framework, "--models", model, "--rounds", str(rounds), "--out", path]
        subprocess.run(
            [sys.executable, __file__, *arguments], check=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        )
        return json.loads(path.read_text(encoding="utf-8"))


def measure(framework: str, model: str, rounds: int) -> dict:
    """Seconds per step of every variant, and the ratios to the dense step of the same round, by both clocks."""
    if framework == "keras3-jax":
        os.environ["KERAS_BACKEND"] = "jax"
    variants = _tfmot(model) if framework == "tfmot" else _tfsparse(model, jit=framework != "keras3")
    for fit in variants.values():
        fit(3)  # compiles; the first update brings the masks to where they are in mid-training
    windows = TFMOT_WINDOWS if framework == "tfmot" else WINDOWS
    seconds = {name: [] for name in variants}
    for turn in range(rounds):
        names = list(variants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(variants[name](windows[name]))
    packages = {"tfmot": ["tf_keras", "tensorflow-model-optimization"], "keras3-jax": ["keras", "jax"]}
    clocks = {clock: ratios({k: [t[i] for t in v] for k, v in seconds.items()}) for i, clock in enumerate(CLOCKS)}
    return {
        "framework": framework,
        "model": model,
        "windows": windows,
        "versions": machine.versions("tensorflow", *packages.get(framework, ["keras"])),
    } | clocks


def ratios(seconds: dict[str, list[float]]) -> dict:
    """Spread of the seconds, and of the ratios to "dense" of the same round."""
    relative = {
        name: [s / d for s, d in zip(values, seconds["dense"], strict=True)]
        for name, values in seconds.items()
        if name != "dense"
    }
    return {
        "seconds_per_step": {name: spread(values) | {"all": values} for name, values in seconds.items()},
        "ratio_to_dense": {name: spread(values) for name, values in relative.items()},
    }


def spread(values: list[float]) -> dict:
    """Least, middle and largest."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def _tfsparse(name: str, jit: bool) -> dict[str, Measure]:
    import keras

    import tfsparse
    from tfsparse.experiments.zoo import models

    schedules = {"dense": None, "every step": tfsparse.OneCycle(updates=None), "default": tfsparse.OneCycle()}

    def prepare(schedule):
        options = {"widths": WIDTHS} if name == "mlp" else {}
        model = models.build(name, SHAPES[name], 10, **options)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), loss=loss, jit_compile=jit)
        callbacks = []
        if schedule is not None:
            tfsparse.sparsify(model, schedule, SPARSITY, tfsparse.Magnitude(scope="layer"), total_steps=TOTAL_STEPS)
            model.optimizer.iterations.assign(MIDDLE)
            callbacks = [tfsparse.Prune(schedule, SPARSITY, tfsparse.Magnitude(scope="layer"), total_steps=TOTAL_STEPS)]
        return stopwatch(keras, model, SHAPES[name], callbacks)

    return {variant: prepare(schedule) for variant, schedule in schedules.items()}


def _tfmot(name: str) -> dict[str, Measure]:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow_model_optimization as tfmot
    import tf_keras

    def prepare(frequency):
        def wrap(layer):
            if frequency is None:
                return layer
            schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, SPARSITY, 0, TOTAL_STEPS, frequency=frequency)
            return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule)

        model = tf_keras_model(tf_keras, name, wrap)
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(tf_keras.optimizers.SGD(1e-3, momentum=0.9), loss=loss)
        model.optimizer.iterations.assign(MIDDLE)
        callbacks = [tfmot.sparsity.keras.UpdatePruningStep()] if frequency else []
        return stopwatch(tf_keras, model, SHAPES[name], callbacks)

    return {"dense": prepare(None), "every step": prepare(1), "default": prepare(100)}


def tf_keras_model(keras, name: str, wrap: Callable):
    """The model of `tfsparse.experiments.zoo.models` in tf_keras; `wrap` sees the layers with kernels and no others."""
    layers = keras.layers
    inputs = x = keras.Input(SHAPES[name])
    if name == "mlp":
        for width in WIDTHS:
            x = wrap(layers.Dense(width, activation="relu"))(x)
    else:
        x = _resnet_20(keras, x, wrap)
    return keras.Model(inputs, wrap(layers.Dense(10))(x))


def _resnet_20(keras, x, wrap):
    layers = keras.layers

    def conv_bn(x, filters, strides=1):
        conv = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False, kernel_initializer="he_normal")
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(wrap(conv)(x))

    def pad(x, filters):
        missing = filters - x.shape[-1]
        return layers.Lambda(_pad, arguments={"missing": missing})(layers.AveragePooling2D(1, strides=2)(x))

    x = layers.ReLU()(conv_bn(x, 16))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            first = stage > 0 and block == 0
            y = layers.ReLU()(conv_bn(x, filters, strides=2 if first else 1))
            y = conv_bn(y, filters)
            x = layers.ReLU()(layers.Add()([y, pad(x, filters) if first else x]))
    return layers.GlobalAveragePooling2D()(x)


def _pad(x, missing: int):
    import tensorflow as tf

    return tf.pad(x, [[0, 0], [0, 0], [0, 0], [missing // 2, missing - missing // 2]])


def stopwatch(keras, model, shape: tuple[int, ...], callbacks: list, batch_size: int = BATCH_SIZE) -> Measure:
    """Train on one repeated batch; the time runs from the end of the first step to the end of the last.

    JAX computes steps while the next ones are called, so a step has ended when its loss can be read.
    """
    import tensorflow as tf

    random = np.random.default_rng(0)
    batch = random.normal(size=(batch_size, *shape)).astype("float32"), random.integers(0, 10, batch_size)
    batches = tf.data.Dataset.from_tensors(batch).repeat()

    class Clock(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.times = []

        def on_train_batch_end(self, batch, logs=None):
            if batch in (0, self.params["steps"] - 1):
                float(logs["loss"])
                self.times.append((time.perf_counter(), time.process_time()))

    clock = Clock()

    def seconds_per_step(steps: int) -> tuple[float, float]:
        model.fit(batches, steps_per_epoch=steps + 1, verbose=0, shuffle=False, callbacks=[*callbacks, clock])
        return tuple((last - first) / steps for first, last in zip(*clock.times, strict=True))

    return seconds_per_step


def table(model: str, measurements: list[dict]) -> rich.table.Table:
    """Per framework and clock: milliseconds of the dense step, and how many times that a sparse one takes."""
    result = rich.table.Table(title=f"{model}, batch {BATCH_SIZE}: sparse step over dense step, median (min to max)")
    for column in ("", "clock", "dense, ms", "masks every step", "default updates"):
        result.add_column(column, justify="right" if column else "left")
    for m in (m for m in measurements if m["model"] == model):
        for clock in CLOCKS:
            dense = 1000 * m[clock]["seconds_per_step"]["dense"]["median"]
            shown = [ratio(m[clock]["ratio_to_dense"][variant]) for variant in ("every step", "default")]
            result.add_row(FRAMEWORKS[m["framework"]], clock, f"{dense:.1f}", *shown)
    return result


def ratio(spread: dict) -> str:
    """A ratio's spread as text."""
    return f"{spread['median']:.2f}x ({spread['min']:.2f} to {spread['max']:.2f})"


if __name__ == "__main__":
    main()
