"""What does sparse training cost a large model: memory, compiling, updates, and what comes after training?

Every figure is measured in a process of its own, so that a peak of memory is that of one run. All models are trained by
SGD with momentum 0.9 to 90 % zeros, densely and with `tfsparse.Prune`. "Default": a mask update in every 10th step, as
by default in a run of 10,000 steps. Memory is the resident memory that Linux counts. The parts:

- memory: 30 steps, batch 32, of fully connected networks of `--sizes` million weights.
- operations: `tfsparse.prune`, `report` and `export` of the same networks, and Keras's own `export`, which is dense.
- first_steps: the first step with its compiling, batch 8, of `--models` with 96x96 pixels; of ResNet-20 under XLA.
- programs: FLOPs and bytes of the compiled step, see `programs.py`.
- steps: `step_overhead.py` on TensorFlow and JAX.

The defaults take some minutes, all of it about an hour:

    python benchmarks/scale.py --sizes 10 30 73 150 300 --models resnet_20 MobileNetV2 ResNet50 NASNetMobile \\
        --rounds 5 --out benchmarks/results/scale.json
"""

import argparse
import json
import math
import pathlib
import statistics
import tempfile
import time

import machine
import numpy as np
import programs
import rich.console
import rich.table
import scale_tables
import step_overhead

SPARSITY, STEPS, UPDATES, LIMIT = 0.9, 30, 3, 3600
VARIANTS = {"dense": None} | {f"{s}, {when}": s for s in scale_tables.SCOPES for when in ("default", "every step")}
OPERATIONS = ("prune", "report", "export", "export of Keras")
BACKENDS, NETWORKS, FRAMEWORKS = ("tensorflow", "jax"), ("mlp", "resnet_20"), ("keras3", "keras3-jax")


# ---- one measurement each, in a process of its own ------------------------------------------------------------------


def train(millions: float, variant: str) -> dict:
    """What the optimizer keeps, the most memory that the process had, and the median seconds of a step of a `fit`."""
    model, scope = _fully_connected(millions), VARIANTS[variant]
    updates = None if variant.endswith("every step") else UPDATES
    first, *others = _seconds_of_steps(model, scope, updates, batch_size=32)
    due = _due_steps(updates)[1:] if scope else np.zeros(STEPS - 1, bool)
    return {
        "weight_bytes": _num_bytes(model.weights),
        "optimizer_bytes": _num_bytes(model.optimizer.variables),
        "mask_bytes": _num_bytes(getattr(model.optimizer, "masks", [])),
        "peak_bytes": machine.peak_bytes(),
        "first_step": first,
        "step_without_update": _median(np.array(others)[~due]),
        "step_with_update": _median(np.array(others)[due]),
    }


def operate(millions: float, operation: str) -> dict:
    """Seconds of one call on a model, and the most memory that it needs beyond what is there before it."""
    with tempfile.TemporaryDirectory() as directory:
        _run(operation, _prepared(operation, 0.01), f"{directory}/small")  # what it imports is there before
        model = _prepared(operation, millions)
        machine.forget_peak()
        before, start = machine.resident_bytes(), time.perf_counter()
        _run(operation, model, f"{directory}/large")
        return {"seconds": time.perf_counter() - start, "peak_bytes": machine.peak_bytes() - before}


def first_step(name: str, scope: str | None) -> dict:
    """Seconds of the first step of a `fit`, in which it is compiled."""
    from tfsparse.experiments.zoo import models

    model = models.build(name, (32, 32, 3) if name in scale_tables.XLA else (96, 96, 3), 10)
    _compile(model, jit=name in scale_tables.XLA)
    return {"seconds": _seconds_of_steps(model, scope, None, batch_size=8, num_steps=2)[0]}


WORKERS = {"train": train, "operate": operate, "first_step": first_step, "programs": programs.measure}


# ---- models and training --------------------------------------------------------------------------------------------


def _fully_connected(millions: float):
    """Four square kernels and a small one: the largest weight has a quarter of all entries."""
    from tfsparse.experiments.zoo import models

    width = round(math.sqrt(millions * 1e6 / 4))
    return _compile(models.build("mlp", (width,), 10, widths=(width,) * 4), jit=False)


def _compile(model, jit: bool):
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), loss=loss, jit_compile=jit)
    return model


def _seconds_of_steps(model, scope, updates, batch_size, num_steps=STEPS) -> list[float]:
    """Train on one repeated batch. The first step begins with the call of `fit`."""
    import keras
    import tensorflow as tf

    import tfsparse

    random = np.random.default_rng(0)
    x = random.normal(size=(batch_size, *model.input_shape[1:])).astype("float32")
    batches = tf.data.Dataset.from_tensors((x, random.integers(0, 10, batch_size))).repeat(num_steps)
    times = []
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: times.append(time.perf_counter()))
    schedule, pruner = tfsparse.OneCycle(updates=updates), tfsparse.Magnitude(scope=scope or "global")
    start = time.perf_counter()
    model.fit(batches, verbose=0, callbacks=[clock, *([tfsparse.Prune(schedule, SPARSITY, pruner)] if scope else [])])
    return np.diff([start, *times]).tolist()


def _due_steps(updates):
    import tfsparse

    return np.asarray(tfsparse.OneCycle(updates=updates).due(np.arange(1, STEPS + 1), STEPS))


def _num_bytes(variables) -> int:
    return sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in variables)


def _median(values) -> float | None:
    return statistics.median(values.tolist()) if len(values) else None


def _prepared(operation: str, millions: float):
    """A model as it is before the operation: dense, or with zeros at random and masks that keep them."""
    import tfsparse

    model, random = _fully_connected(millions), np.random.default_rng(0)
    if operation in ("report", "export"):
        for kernel in (w for w in model.weights if len(w.shape) == 2):
            kernel.assign(kernel * (random.random(kernel.shape, "float32") >= SPARSITY))
        tfsparse.keep_zeros(model)
    return model


def _run(operation: str, model, path: str) -> None:
    import tfsparse

    if operation == "prune":
        tfsparse.prune(model, SPARSITY)
    elif operation == "report":
        tfsparse.report(model)
    elif operation == "export":
        tfsparse.export(model, path)
    else:
        model.export(path, verbose=False)


# ---- all measurements -----------------------------------------------------------------------------------------------


def plan(options) -> list[tuple[str, str, list]]:
    """The measurements: part, function and arguments."""
    tasks = [("memory", "train", [n, variant]) for n in options.sizes for variant in VARIANTS]
    tasks += [("operations", "operate", [n, operation]) for n in options.sizes for operation in OPERATIONS]
    tasks += [
        ("first_steps", "first_step", [name, scope])
        for name in options.models
        for scope in (None, *scale_tables.SCOPES)
    ]
    tasks += [("programs", "programs", [backend, name]) for name in NETWORKS for backend in BACKENDS]
    tasks += [("steps", "step_overhead", [name, framework]) for name in NETWORKS for framework in FRAMEWORKS]
    return [task for task in tasks if task[0] in options.parts]


def measure(function: str, arguments: list, rounds: int) -> dict:
    """One measurement in a process of its own. First steps are measured `rounds` times."""
    if function == "step_overhead":
        name, framework = arguments
        command = ["--worker", "--models", name, "--frameworks", framework, "--rounds", str(rounds)]
        return machine.in_process(step_overhead.__file__, command, LIMIT)
    command = ["--worker", json.dumps([function, *arguments])]
    results = [machine.in_process(__file__, command, LIMIT) for _ in range(rounds if function == "first_step" else 1)]
    return min(results, key=lambda result: result.get("seconds", 0))  # the least disturbed one, or an error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="where to write the JSON")
    parser.add_argument("--sizes", nargs="+", type=float, default=[10], help="million weights")
    parser.add_argument("--models", nargs="+", default=["resnet_20"], help="of whom the first step is measured")
    parser.add_argument("--parts", nargs="+", choices=scale_tables.TABLES, default=list(scale_tables.TABLES))
    parser.add_argument("--rounds", type=int, default=3, help="of first steps and steps")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        function, *arguments = options.worker
        machine.write(options.out, machine.result_or_error(WORKERS[function], *arguments))
        return
    about = {"machine": machine.describe(), "versions": machine.versions("keras", "tensorflow", "jax")}
    asked = {"sizes": options.sizes, "models": options.models, "rounds": options.rounds}
    results = about | asked | {"measurements": []}
    for part, function, arguments in plan(options):
        result = measure(function, arguments, options.rounds)
        print(part, *arguments, result.get("error", "done"), flush=True)
        results["measurements"].append({"part": part, "arguments": arguments, "result": result})
        if options.out:
            machine.write(options.out, results)  # after each, since all of them take long
    for part, (titles, rows) in scale_tables.tables(results).items():
        table = rich.table.Table(*titles, title=part)
        for row in rows:
            table.add_row(*row)
        rich.console.Console(width=150).print(table)


if __name__ == "__main__":
    main()
