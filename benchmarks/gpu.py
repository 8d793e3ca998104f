"""For whoever has a GPU: what does sparse training cost there, on JAX and on TensorFlow? One table, within ten minutes.

Whichever of the two sees a GPU is measured, each network in a process of its own, with one threshold for all layers
(`scope="global"`), SGD with momentum and batch 128:

- the step of an MLP 784-2048-2048-10 and of ResNet-18 (32x32 pixels), as a multiple of the dense step: with masks that
  stay, with an update in every 10th step, as by default in a run of 10,000 steps, and with an update in every step.
  The four take turns; the median of all rounds counts. The update's time is the difference of the last and the second.
- the memory that each of them needs beyond what was in use before, at its peak.
- ResNet-18 on 400 batches of noisy synthetic images, trained densely, by One-Cycle Pruning and by RigL to 90 % zeros.

    python benchmarks/gpu.py --out gpu.json
    python benchmarks/gpu.py --tiny                # on CPU, to see that it works
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import time

import machine
import numpy as np
import rich.console
import rich.table
import step_overhead

SPARSITY, TOTAL_STEPS, PERIOD, MINUTES = 0.9, 10_000, 10, 10
VARIANTS = {"dense": None, "masks stay": 1, "default updates": 1000, "update every step": TOTAL_STEPS}  # updates
FULL = {
    "networks": {"mlp": ("mlp", (784,), {"widths": (2048, 2048)}), "ResNet-18": ("resnet_18", (32, 32, 3), {})},
    "batch_size": 128,
    "rounds": 10,
    "batches": 400,
}
TINY = {
    "networks": {"mlp": ("mlp", (16,), {"widths": (32,)}), "ResNet-18": ("wrn_10_1", (8, 8, 3), {})},
    "batch_size": 4,
    "rounds": 1,
    "batches": 4,
}


# ---- one measurement each, in a process of its own ------------------------------------------------------------------


def device(size: dict) -> dict:
    """The GPU that the backend sees."""
    return {"name": _gpu_name(), "versions": machine.versions("keras", "tensorflow", "jax")}


def steps(size: dict, network: str) -> dict:
    """Seconds per step of every variant, and the bytes that it needs."""
    fits, needed = {}, {}
    for variant, updates in VARIANTS.items():  # in the order of their needs, since JAX cannot forget a peak
        in_use, _ = _memory()
        fits[variant], model = _variant(size, network, updates)
        fits[variant](3)  # compiles
        needed[variant] = _memory()[1] - in_use  # 0 without a GPU
    seconds = {variant: [] for variant in fits}
    for _, variant in itertools.product(range(size["rounds"]), fits):
        seconds[variant].append(fits[variant](PERIOD)[0])
    weights = 4 * model.count_params()
    return {"seconds": {v: statistics.median(s) for v, s in seconds.items()}, "needed": needed, "weights": weights}


def compare(size: dict) -> dict:
    """Accuracy and seconds per step of ResNet-18, dense and by two methods."""
    import tfsparse

    methods = {
        "dense": None,
        "one-cycle, global": tfsparse.Prune("one_cycle", SPARSITY),
        "RigL": tfsparse.Prune(tfsparse.Constant(updates=20), SPARSITY, tfsparse.RigL()),
    }
    return {method: _trained(size, prune) for method, prune in methods.items()}


WORKERS = {f.__name__: f for f in (device, steps, compare)}


# ---- models, data and memory ----------------------------------------------------------------------------------------


def _model(size: dict, network: str, learning_rate):
    import keras

    from tfsparse.experiments.zoo import models

    name, shape, options = size["networks"][network]
    model = models.build(name, shape, 10, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(learning_rate, momentum=0.9), loss=loss, metrics=["accuracy"])
    return model


def _variant(size: dict, network: str, updates: int | None):
    """A function that trains some steps in the middle of a run, and the model."""
    import keras

    import tfsparse

    model, callbacks = _model(size, network, 1e-3), []
    if updates:
        what = (tfsparse.OneCycle(updates=updates), SPARSITY)
        tfsparse.sparsify(model, *what, total_steps=TOTAL_STEPS)
        model.optimizer.iterations.assign(TOTAL_STEPS // 2)
        callbacks = [tfsparse.Prune(*what, total_steps=TOTAL_STEPS)]
    shape = size["networks"][network][1]
    return step_overhead.stopwatch(keras, model, shape, callbacks, size["batch_size"]), model


def _trained(size: dict, prune) -> dict:
    import keras

    import tfsparse

    keras.utils.set_random_seed(0)
    model = _model(size, "ResNet-18", keras.optimizers.schedules.CosineDecay(0.05, size["batches"]))
    images, labels = _images(size["batches"] * size["batch_size"] + 2000, model.input_shape[1:])
    times = []
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: times.append(time.perf_counter()))
    callbacks = [clock, *([prune] if prune else [])]
    model.fit(images[2000:], labels[2000:], batch_size=size["batch_size"], verbose=0, callbacks=callbacks)
    return {
        "seconds": statistics.median(np.diff(times).tolist()),
        "accuracy": model.evaluate(images[:2000], labels[:2000], verbose=0, return_dict=True)["accuracy"],
        "sparsity": tfsparse.report(model).sparsity if prune else 0.0,
    }


def _images(num: int, shape: tuple[int, ...]):
    """A coarse pattern per class, shifted at random, under noise."""
    random = np.random.default_rng(0)
    patterns = np.kron(random.normal(size=(10, 4, 4, 3)), np.ones((1, shape[0] // 4, shape[1] // 4, 1)))
    labels, shifts = random.integers(0, 10, num), random.integers(0, shape[0], num)
    images = random.standard_normal((num, *shape), "float32")
    for i in range(num):
        images[i] += 0.1 * np.roll(patterns[labels[i]], shifts[i], axis=1)
    return images, labels


def _gpu_name() -> str | None:
    import keras

    if keras.backend.backend() == "jax":
        import jax

        first = jax.devices()[0]
        return first.device_kind if first.platform == "gpu" else None
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(found[0]).get("device_name", "a GPU") if found else None


def _memory() -> tuple[int, int]:
    """Bytes of the GPU in use now, and the most there were."""
    import keras

    if not _gpu_name():
        return 0, 0
    if keras.backend.backend() == "jax":
        import jax

        stats = jax.devices()[0].memory_stats()
        return stats["bytes_in_use"], stats["peak_bytes_in_use"]
    import tensorflow as tf

    stats = tf.config.experimental.get_memory_info("GPU:0")
    return stats["current"], stats["peak"]


# ---- all measurements, and the table --------------------------------------------------------------------------------


def measure(backend: str, tiny: bool, end: float) -> dict:
    """All that is measured with one backend; what was not begun before `end` is an error."""
    results = {"device": _in_process(["device", backend, tiny], end)}
    name = results["device"].get("name")
    if name or (tiny and "error" not in results["device"]):
        results["steps"] = {
            network: _in_process(["steps", backend, tiny, network], end) for network in FULL["networks"]
        }
        results["comparison"] = _in_process(["compare", backend, tiny], end)
    return results


def _in_process(task: list, end: float) -> dict:
    left = int(end - time.monotonic())
    print(*task, flush=True)
    return machine.in_process(__file__, ["--worker", json.dumps(task)], left) if left > 0 else {"error": "no time left"}


def _work(function: str, backend: str, tiny: bool, *arguments) -> dict:
    os.environ |= {"KERAS_BACKEND": backend, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import tensorflow as tf

    if backend == "jax":
        tf.config.set_visible_devices([], "GPU")  # it only feeds the data
    return WORKERS[function](TINY if tiny else FULL, *arguments)


def table(results: dict[str, dict]) -> rich.table.Table:
    """A row per backend, network and way to train."""
    names = {r["device"].get("name") or "CPU, tiny" for r in results.values()}
    titles = ["backend", "network", "training", "ms per step", "× dense", "update, ms", "memory, MB"]
    result = rich.table.Table(*titles, "beyond dense / weights", "accuracy", title=", ".join(sorted(names)))
    for backend, measured in results.items():
        for network, m in measured["steps"].items():
            for row in _step_rows(m) if "error" not in m else [[m["error"]]]:
                result.add_row(backend, network, *row)
        m = measured["comparison"]
        for row in _comparison_rows(m) if "error" not in m else [[m["error"]]]:
            result.add_row(backend, "ResNet-18, trained", *row)
    return result


def _step_rows(m: dict) -> list[list[str]]:
    seconds, needed = m["seconds"], m["needed"]
    update = f"{1e3 * (seconds['update every step'] - seconds['masks stay']):.2f}"
    rows = []
    for variant in VARIANTS:
        memory = [f"{needed[variant] / 1e6:,.0f}", f"{(needed[variant] - needed['dense']) / m['weights']:.2f}"]
        ms, ratio = f"{1e3 * seconds[variant]:.2f}", f"{seconds[variant] / seconds['dense']:.2f}"
        shown = update if variant == "update every step" else ""
        rows.append([variant, ms, ratio, shown, *(memory if needed["dense"] else [])])
    return rows


def _comparison_rows(m: dict) -> list[list[str]]:
    dense = m["dense"]["seconds"]
    shown = {method: (f"{1e3 * r['seconds']:.2f}", f"{r['seconds'] / dense:.2f}") for method, r in m.items()}
    return [[method, *shown[method], "", "", "", f"{r['accuracy']:.3f}"] for method, r in m.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", nargs="+", choices=["jax", "tensorflow"], default=["jax", "tensorflow"])
    parser.add_argument("--tiny", action="store_true", help="tiny networks, also without a GPU")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the JSON")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        machine.write(options.out, machine.result_or_error(_work, *options.worker))
        return
    end = time.monotonic() + 60 * MINUTES
    results = {backend: measure(backend, options.tiny, end) for backend in options.backend}
    if options.out:
        machine.write(options.out, {"machine": machine.describe(), "tiny": options.tiny} | results)
    measured = {backend: r for backend, r in results.items() if "steps" in r}
    if not measured:
        found = "; ".join(f"{b}: {r['device'].get('error', 'sees no GPU')}" for b, r in results.items())
        parser.error(f"no GPU ({found}): install jax[cuda12] or tensorflow[and-cuda], or write --tiny to run on CPU.")
    rich.console.Console(width=140).print(table(measured))


if __name__ == "__main__":
    main()
