"""Is One-Cycle Pruning at least as accurate as TFMOT's pruning on MNIST?

Trains LeNet-300-100 dense, with One-Cycle Pruning (layer scope, ERK, global scope) and with TFMOT's PolynomialDecay (by
`mnist_tfmot.py`), three sparsities, three seeds, the same batches and learning rate; then writes the tables of
`docs/mnist.md` and of the README. Runs that are finished are not run again. About 30 minutes on two CPU cores:

    TFDS_DATA_DIR=... python benchmarks/mnist.py            # run what is missing, then write the tables
    python benchmarks/mnist.py --tables                     # only the tables, from benchmarks/results/mnist
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import tables
import trainings

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "mnist"
SPARSITIES, SEEDS = (0.9, 0.95, 0.98), (0, 1, 2)
PRUNERS = {
    "layer": "{name: magnitude, scope: layer}",
    "erk": "{name: magnitude, allocation: erk}",
    "global": "{name: magnitude, scope: global}",
}
METHODS = {
    "dense": "dense",
    "one_cycle-layer": "One-Cycle, layer",
    "one_cycle-erk": "One-Cycle, ERK",
    "one_cycle-global": "One-Cycle, global",
    "tfmot": "TFMOT PolynomialDecay",
}


def run_ours(name: str, config: str, *overrides: str) -> None:
    """Train a config through the command line and keep its run.json."""
    with tempfile.TemporaryDirectory() as folder:
        trainings.train(config, RESULTS / f"{name}.json", pathlib.Path(folder), "run", *overrides)


def run_tfmot() -> None:
    """Train the TFMOT baseline, all runs in one go."""
    if all((RESULTS / f"tfmot-{s}-seed{seed}.json").exists() for s in SPARSITIES for seed in SEEDS):
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(HERE / "mnist_tfmot.py"), "--out", folder], check=True)
        for file in pathlib.Path(folder).glob("*/run.json"):
            shutil.copy(file, RESULTS / f"tfmot-{file.parent.name}.json")


def run_all() -> None:
    """Everything that is missing."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        run_ours(f"dense-seed{seed}", "mnist_lenet300_dense", f"seed={seed}")
        for s in SPARSITIES:
            for name, pruner in PRUNERS.items():
                sets = (f"seed={seed}", f"prune.sparsity={s}", f"prune.pruner={pruner}")
                run_ours(f"one_cycle-{name}-{s}-seed{seed}", "mnist_lenet300_one_cycle", *sets)
    run_tfmot()


def accuracy(run: dict) -> float:
    """Accuracy of the last epoch on the test set, in per cent."""
    return 100 * (run["summary"]["accuracy"] if "summary" in run else run["accuracy"])


def actual(run: dict) -> float:
    """Zeros over entries of the kernels."""
    return run["report"]["sparsity"] if "report" in run else run["sparsity_actual"]


def collected(method: str, sparsity: float | None) -> list[dict]:
    """The runs of a method, one per seed."""
    middle = "" if method == "dense" else f"-{sparsity}"
    return [json.loads((RESULTS / f"{method}{middle}-seed{seed}.json").read_text()) for seed in SEEDS]


def cell(runs: list[dict]) -> str:
    """Mean and sample standard deviation."""
    return tables.mean([accuracy(r) for r in runs])


def summary_table() -> str:
    """The README's table."""
    lines = ["| | " + " | ".join(f"{s:.0%} zeros" for s in SPARSITIES) + " |", "|---" * (len(SPARSITIES) + 1) + "|"]
    for method, label in METHODS.items():
        cells = [cell(collected(method, s)) for s in SPARSITIES]
        cells = [cells[0] + " (no zeros)", "", ""] if method == "dense" else cells
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def full_table() -> str:
    """Every run."""
    lines = ["| method | asked | zeros counted | accuracy, seeds 0, 1, 2 |", "|---|---|---|---|"]
    for method, label in METHODS.items():
        for s in (None,) if method == "dense" else SPARSITIES:
            runs = collected(method, s)
            counted = ", ".join(sorted({f"{actual(r):.5f}" for r in runs}))
            lines.append(f"| {label} | {s or 0} | {counted} | {', '.join(f'{accuracy(r):.2f}' for r in runs)} |")
    return "\n".join(lines)


def write_tables() -> None:
    """Put the tables between their markers in the documents."""
    tables.write("docs/mnist.md", "mnist", summary_table())
    tables.write("docs/mnist.md", "mnist-runs", full_table())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    if not parser.parse_args().tables:
        run_all()
    write_tables()
