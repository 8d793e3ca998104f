"""What does curvature buy? PLL against AGP and One-Cycle, in the same budget and laid over the same steps.

Digits (mlp) and MNIST (LeNet-300-100), sparsity 0.90 and 0.95, three seeds; for every seed all methods begin with the
same weights and see the same batches. "matched" lays a schedule over the steps in which PLL pruned with that seed. Runs
that are in the results are not run again. About 15 minutes on two idle CPU cores:

    TFDS_DATA_DIR=... python benchmarks/pll.py          # run what is missing, then write the tables of docs/pll.md
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

import tfsparse
from tfsparse import rules, wrapping
from tfsparse.zoo import data, models

HERE = pathlib.Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "pll.json", HERE.parent / "docs" / "pll.md"
SPARSITIES, SEEDS = (0.9, 0.95), (0, 1, 2)
TASKS = {
    "digits": {"model": "mlp", "epochs": 30, "batch_size": 32, "rate": 0.05, "every": 41, "often": 10},
    "mnist": {"model": "lenet_300_100", "epochs": 8, "batch_size": 128, "rate": 0.1, "every": None, "often": 50},
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
    "pll_free": "PLL without a target, free to prune to the end, checks more often",
}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
COLUMNS = (
    "accuracy, % | zeros | training FLOPs | of these measuring | wall time, s | measuring | start, end (steps) | events"
)


class EveryStep(keras.callbacks.Callback):
    """Notes the density of each kernel whenever the sparsity changes: `(step, [densities])`."""

    def __init__(self):
        super().__init__()
        self.step, self.seen = 0, [(0, None)]

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        optimizer = wrapping.sparse_optimizer(self.model)
        if optimizer is None:
            return
        densities = [float(np.mean(keras.ops.convert_to_numpy(m))) for m in optimizer.masks]
        if densities != self.seen[-1][1]:
            self.seen.append((self.step, densities))


def callback(method: str, sparsity: float, task: dict, calibration, window):
    """The callback of a method; `window` is PLL's, in fractions of training."""
    every, pll = task["every"], tfsparse.PLL
    start, end = window or (None, None)
    magnitude = tfsparse.Magnitude(scope="global")
    makers = {
        "dense": lambda: None,
        "agp": lambda: tfsparse.Prune(tfsparse.Polynomial(start=0.1, end=0.6), sparsity, magnitude),
        "one_cycle": lambda: tfsparse.Prune("one_cycle", sparsity, magnitude),
        "agp_matched": lambda: tfsparse.Prune(tfsparse.Polynomial(start=start, end=end), sparsity, magnitude),
        "one_cycle_matched": lambda: tfsparse.Prune(tfsparse.OneCycle(start=start, end=end), sparsity, magnitude),
        "pll": lambda: pll(calibration, sparsity, every),
        "start_only": lambda: pll(calibration, sparsity, every, rate=rules.Share(0.2)),
        "rate_only": lambda: pll(calibration, sparsity, every, start=rules.At(0.1)),
        "max": lambda: pll(calibration, sparsity, every, rate=rules.LossBudget(curvature="max")),
        "pll_free": lambda: pll(calibration, None, task["often"], end=1.0),
    }
    return makers[method]()


def run(name: str, method: str, sparsity: float, seed: int, window) -> dict:
    """Train once."""
    task = TASKS[name]
    batches = data.load(name, batch_size=task["batch_size"], seed=seed, epochs=task["epochs"])
    keras.utils.set_random_seed(seed)
    model = models.build(task["model"], batches.input_shape, batches.num_classes)
    steps = task["epochs"] * batches.steps_per_epoch
    rate = keras.optimizers.schedules.CosineDecay(task["rate"], steps)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), LOSS, metrics=["accuracy"])
    prune = callback(method, sparsity, task, next(iter(batches.train)), window)
    densities, begin = EveryStep(), time.perf_counter()
    model.fit(
        batches.train,
        epochs=task["epochs"],
        steps_per_epoch=batches.steps_per_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[c for c in (prune, densities) if c],
    )
    seconds = time.perf_counter() - begin
    result = {"accuracy": model.evaluate(batches.validation, verbose=0, return_dict=True)["accuracy"]}
    result |= {"seconds": seconds, "steps": steps, **flops(model, densities.seen, steps, prune)}
    result |= window_of(densities.seen, prune)
    return result


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
        number = (5 if i == 0 else 3) if looks else getattr(prune.rate, "products", 0) if trace else 0
        gradients += at(record["step"]) * (2 * number + (1 / 3 if trace else 0))
        products += number
    assert products == getattr(prune, "products", 0)
    measuring = gradients / steps
    result = {"flops": training + measuring, "flops_measuring": measuring, "sparsity": 1 - cost(seen[-1][1])}
    if hasattr(prune, "measuring_share"):
        result |= {"share": prune.measuring_share(), "share_compiled": prune.measuring_share(False)}
    return result


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
        for seed in SEEDS:
            yield name, "dense", 0.0, seed
            for sparsity in SPARSITIES:
                yield from ((name, method, sparsity, seed) for method in METHODS if method not in ("dense", "pll_free"))
            yield name, "pll_free", 0.0, seed


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
        name, method, sparsity, seed = case
        window = None
        if method.endswith("_matched"):
            pll = results[key(name, "pll", sparsity, seed)]
            window = (pll["start"] - 1) / pll["steps"], pll["end"] / pll["steps"]
        results[key(*case)] = run(name, method, sparsity, seed, window)
        machine.write(RESULTS, results)
        shown = {k: v for k, v in results[key(*case)].items() if k != "history"}
        print(key(*case), shown, flush=True)


def table(results: dict, name: str) -> str:
    """One row per method and sparsity: means over the seeds, for accuracy with the sample standard deviation."""
    lines = [f"| sparsity | method | {COLUMNS} |", "|---" * (COLUMNS.count("|") + 3) + "|"]
    for sparsity in (0.0, *SPARSITIES):
        for method, label in METHODS.items():
            runs = [results[k] for seed in SEEDS if (k := key(name, method, sparsity, seed)) in results]
            if runs:
                lines.append(f"| {sparsity or '–'} | {label} | {row(runs)} |")
    return "\n".join(lines)


def row(runs: list[dict]) -> str:
    """The cells of some runs."""
    mean = lambda what: statistics.mean(r[what] for r in runs)  # noqa: E731
    accuracies = [100 * r["accuracy"] for r in runs]
    spread = f" ± {statistics.stdev(accuracies):.2f}" if len(runs) > 1 else ""
    share = f"{mean('share'):.1%} ({mean('share_compiled'):.1%})" if "share" in runs[0] else ""
    steps = f"{mean('start'):.0f}, {mean('end'):.0f} of {runs[0]['steps']}" if "start" in runs[0] else ""
    figures = f"{mean('sparsity'):.4f} | {mean('flops'):.3f} | {mean('flops_measuring'):.3f} | {mean('seconds'):.1f}"
    return f"{statistics.mean(accuracies):.2f}{spread} | {figures} | {share} | {steps} | {events(runs)}"


def events(runs: list[dict]) -> str:
    """In how many of PLL's events the rate decided; in the others the target demanded more than it admitted."""
    found = [r for each in runs for r in each.get("history", []) if "admitted" in r]
    return f"{sum(r['admitted'] >= r['pruned'] for r in found)} of {len(found)}" if found else ""


def write_tables() -> None:
    """Put the tables between their markers."""
    results = json.loads(RESULTS.read_text())
    for name in TASKS:
        text = PAGE.read_text(encoding="utf-8")
        head, _, rest = text.partition(f"<!-- table: pll-{name} -->\n")
        _, _, tail = rest.rpartition(f"<!-- end: pll-{name} -->\n")
        marked = f"<!-- table: pll-{name} -->\n{table(results, name)}\n<!-- end: pll-{name} -->\n"
        PAGE.write_text(head + marked + tail, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    if not parser.parse_args().tables:
        run_all()
    write_tables()
