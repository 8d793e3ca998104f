"""What does curvature buy? PLL against AGP and One-Cycle, in the same budget and laid over the same steps.

Digits (mlp) and MNIST (LeNet-300-100), sparsity 0.90 and 0.95, three seeds, without a target ten seeds; for every seed
all methods begin with the same weights and see the same batches. "matched" lays a schedule over the steps in which PLL
pruned with that seed. Runs that are in the results are not run again. About 20 minutes on two idle CPU cores:

    TFDS_DATA_DIR=... python benchmarks/pll.py          # run what is missing, then write the tables of docs/pll.md
    TFDS_DATA_DIR=... python benchmarks/pll.py --times  # measure wall times anew, one run of each without looking on
    python benchmarks/pll.py --tables                   # only the tables, from benchmarks/results/pll.json
"""

import argparse
import json
import pathlib
import statistics
import time

import keras
import machine
import numpy as np
import tables

import tfsparse
from tfsparse.experiments.zoo import data, models
from tfsparse.methods.pll import rules
from tfsparse.optimizers import compiled_model

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "pll.json"
SPARSITIES, SEEDS, FREE_SEEDS = (0.9, 0.95), (0, 1, 2), tuple(range(10))
NAMES = ("model", "epochs", "batch_size", "rate", "look")
TASKS = {
    "digits": dict(zip(NAMES, ("mlp", 30, 32, 0.05, 1), strict=True)),
    "mnist": dict(zip(NAMES, ("lenet_300_100", 8, 128, 0.1, 10), strict=True)),
}
METHODS = {
    "dense": "dense",
    "agp": "AGP, 0.1 to 0.6 of training",
    "one_cycle": "One-Cycle, all of training",
    "pll": "PLL",
    "agp_matched": "AGP, PLL's steps",
    "one_cycle_matched": "One-Cycle, PLL's steps",
    "start_only": "PLL's start, a fifth per event",
    "rate_only": "start at 0.1, PLL's rate",
    "max": "PLL with h = largest eigenvalue",
    "pll_free": "PLL without a target",
}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
COLUMNS = (
    "accuracy, % | zeros | training FLOPs | of these measuring | wall time, s | measuring | start, end (steps) | events"
)


class Densities(keras.callbacks.Callback):
    """Looks every few steps and notes the densities of the kernels where they have changed: `(step, [densities])`."""

    def __init__(self, look: int):
        super().__init__()
        self.look, self.step, self.seen = look, 0, [(0, None)]

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        optimizer = None if self.step % self.look else compiled_model.sparse_optimizer(self.model)
        if optimizer is None:
            return
        densities = [float(np.mean(keras.ops.convert_to_numpy(m))) for m in optimizer.masks]
        if densities != self.seen[-1][1]:
            self.seen.append((self.step, densities))


def callback(method: str, sparsity: float, calibration, window):
    """The callback of a method; `window` is PLL's, in fractions of training."""
    pll = tfsparse.PLL
    start, end = window or (None, None)
    magnitude = tfsparse.Magnitude(scope="global")
    makers = {
        "dense": lambda: None,
        "agp": lambda: tfsparse.Prune(tfsparse.Polynomial(start=0.1, end=0.6), sparsity, magnitude),
        "one_cycle": lambda: tfsparse.Prune("one_cycle", sparsity, magnitude),
        "agp_matched": lambda: tfsparse.Prune(tfsparse.Polynomial(start=start, end=end), sparsity, magnitude),
        "one_cycle_matched": lambda: tfsparse.Prune(tfsparse.OneCycle(start=start, end=end), sparsity, magnitude),
        "pll": lambda: pll(calibration, sparsity),
        "start_only": lambda: pll(calibration, sparsity, rate=rules.Share(0.2)),
        "rate_only": lambda: pll(calibration, sparsity, start=rules.FixedStart(0.1)),
        "max": lambda: pll(calibration, sparsity, rate=rules.LossBudget(curvature="max")),
        "pll_free": lambda: pll(calibration),
    }
    return makers[method]()


def train(name: str, method: str, sparsity: float, seed: int, window, *watching) -> tuple:
    """Train once: the batches, the model, the callback that pruned, and the seconds of `fit`."""
    task = TASKS[name]
    batches = data.load(name, batch_size=task["batch_size"], seed=seed, epochs=task["epochs"])
    keras.utils.set_random_seed(seed)
    model = models.build(task["model"], batches.input_shape, batches.num_classes)
    steps = task["epochs"] * batches.steps_per_epoch
    rate = keras.optimizers.schedules.CosineDecay(task["rate"], steps)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), LOSS, metrics=["accuracy"])
    prune = callback(method, sparsity, next(iter(batches.train)), window)
    begin = time.perf_counter()
    model.fit(
        batches.train,
        epochs=task["epochs"],
        steps_per_epoch=batches.steps_per_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[c for c in (prune, *watching) if c],
    )
    return batches, model, prune, time.perf_counter() - begin


def run(name: str, method: str, sparsity: float, seed: int, window) -> dict:
    """Train once and say what came of it."""
    densities = Densities(TASKS[name]["look"])
    batches, model, prune, _ = train(name, method, sparsity, seed, window, densities)
    steps = TASKS[name]["epochs"] * batches.steps_per_epoch
    result = {"accuracy": model.evaluate(batches.validation, verbose=0, return_dict=True)["accuracy"], "steps": steps}
    return result | flops(model, densities.seen, steps, prune) | window_of(densities.seen, prune)


def flops(model, seen, steps, prune) -> dict:
    """Training FLOPs relative to dense training, 3 f(density) per example and step; a Hessian-vector product counts as
    two gradients of a batch (calibration data are one), a loss as a forward pass, both at the density of their step."""
    sizes = np.array([np.prod(v.shape) for v in model.trainable_variables if v.name == "kernel"])
    cost = lambda d: 1.0 if d is None else float(np.dot(d, sizes) / sizes.sum())  # noqa: E731
    ends = [step for step, _ in seen[1:]] + [steps]
    training = sum(cost(d) * (end - step) for (step, d), end in zip(seen, ends, strict=True)) / steps
    at = lambda step: cost([d for s, d in seen if s < step][-1])  # noqa: E731  before the event of that step
    records, gradients, products = getattr(prune, "history", []), 0.0, 0
    for i, record in enumerate(records):
        looks, trace = "kappa" in record, "h" in record
        number = looks * (5 if i == 0 else 3) + trace * getattr(prune.rate, "products", 0)
        gradients += at(record["step"]) * (2 * number + (1 / 3 if trace else 0))
        products += number
    assert products == getattr(prune, "products", 0)
    measuring = gradients / steps
    return {"flops": training + measuring, "flops_measuring": measuring, "sparsity": 1 - cost(seen[-1][1])}


def window_of(seen, prune) -> dict:
    """First and last step at which masks changed; for PLL also the steps of its own decisions."""
    changes = [step for step, densities in seen[1:] if min(densities) < 1]
    if hasattr(prune, "history"):
        changes = [r["step"] for r in prune.history if r["pruned"]]
    window = {"start": changes[0], "end": changes[-1]} if changes else {}
    return window | ({"history": prune.history} if hasattr(prune, "history") else {})


def cases():
    """`(task, method, sparsity, seed)`; PLL before what is laid over its steps."""
    for name in TASKS:
        for seed in FREE_SEEDS:
            yield from ((name, method, 0.0, seed) for method in ("dense", "pll_free"))
            for sparsity in SPARSITIES if seed in SEEDS else ():
                # h = largest eigenvalue admits nothing on digits, and is not asked again
                left_out = {"dense", "pll_free"} | ({"max"} if name == "mnist" else set())
                yield from ((name, method, sparsity, seed) for method in METHODS if method not in left_out)


def key(name, method, sparsity, seed) -> str:
    """Name of a run in the results."""
    return f"{name}-{method}-{sparsity}-seed{seed}"


def run_all() -> None:
    """Everything that is missing."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    order = list(METHODS)
    results.setdefault("machine", machine.describe() | machine.versions("tensorflow", "keras"))
    for case in sorted(cases(), key=lambda c: (list(TASKS).index(c[0]), c[3], c[2], order.index(c[1]))):
        if key(*case) in results:
            continue
        results[key(*case)] = run(*case, window(results, *case))
        machine.write(RESULTS, results)
        shown = {k: v for k, v in results[key(*case)].items() if k != "history"}
        print(key(*case), shown, flush=True)


def window(results, name, method, sparsity, seed):
    """PLL's window with that seed, in fractions of training, for what is laid over its steps."""
    if not method.endswith("_matched"):
        return None
    pll = results[key(name, "pll", sparsity, seed)]
    return (pll["start"] - 1) / pll["steps"], pll["end"] / pll["steps"]


def time_all() -> None:
    """The wall time of one run of each method, at the first sparsity and seed, and what share of it was measuring."""
    results = json.loads(RESULTS.read_text())
    results["times"] = {"machine": machine.describe()}
    for case in (c for c in cases() if c[3] == SEEDS[0] and c[2] in (0.0, SPARSITIES[0])):
        *_, prune, seconds = train(*case, window(results, *case))
        shares = {}
        if hasattr(prune, "measuring_share"):
            shares = {"share": prune.measuring_share(), "share_compiled": prune.measuring_share(False)}
        results["times"][key(*case)] = {"seconds": seconds} | shares
        machine.write(RESULTS, results)


def table(results: dict, name: str) -> str:
    """One row per method and sparsity: means over the seeds, for accuracy with the sample standard deviation."""
    lines = [f"| sparsity | method | {COLUMNS} |", "|---" * (COLUMNS.count("|") + 3) + "|"]
    for sparsity in (0.0, *SPARSITIES):
        for method, label in METHODS.items():
            runs = [results[k] for seed in FREE_SEEDS if (k := key(name, method, sparsity, seed)) in results]
            if runs:
                time_of = results.get("times", {}).get(key(name, method, sparsity, SEEDS[0]))
                lines.append(f"| {sparsity or '–'} | {label} | {row(runs, time_of)} |")
    return "\n".join(lines)


def free_table(results: dict) -> str:
    """Per task and seed: the accuracy of PLL without a target minus that of the dense training, and its sparsity."""
    rows = [[name, *(_lost(results, name, seed) for seed in FREE_SEEDS)] for name in TASKS]
    return tables.markdown(["seed", *map(str, FREE_SEEDS)], rows)


def _lost(results, name, seed):
    dense, free = (results.get(key(name, method, 0.0, seed)) for method in ("dense", "pll_free"))
    if dense is None or free is None:
        return ""
    return f"{100 * (free['accuracy'] - dense['accuracy']):+.2f} ({free['sparsity']:.2f})"


def row(runs: list[dict], time_of: dict | None) -> str:
    """The cells of some runs, and of the one whose time was taken."""
    mean = lambda what: statistics.mean(r[what] for r in runs)  # noqa: E731
    accuracies = [100 * r["accuracy"] for r in runs]
    seconds = f"{time_of['seconds']:.1f}" if time_of else ""
    share = f"{time_of['share']:.1%} ({time_of['share_compiled']:.1%})" if time_of and "share" in time_of else ""
    steps = f"{mean('start'):.0f}, {mean('end'):.0f} of {runs[0]['steps']}" if "start" in runs[0] else ""
    figures = f"{mean('sparsity'):.4f} | {mean('flops'):.3f} | {mean('flops_measuring'):.3f} | {seconds}"
    return f"{tables.mean(accuracies)} | {figures} | {share} | {steps} | {events(runs)}"


def events(runs: list[dict]) -> str:
    """In how many of PLL's events the rate admitted at least what was taken; in the others the target demanded more."""
    found = [r for each in runs for r in each.get("history", []) if "admitted" in r]
    return f"{sum(r['admitted'] >= r['pruned'] for r in found)} of {len(found)}" if found else ""


def write_tables() -> None:
    """Put the tables between their markers."""
    results = json.loads(RESULTS.read_text())
    for name in TASKS:
        tables.write("docs/pll.md", f"pll-{name}", table(results, name))
    tables.write("docs/pll.md", "pll-free", free_table(results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    parser.add_argument("--times", action="store_true", help="measure wall times, on an idle machine")
    arguments = parser.parse_args()
    if arguments.times:
        time_all()
    elif not arguments.tables:
        run_all()
    write_tables()
