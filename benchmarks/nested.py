"""Is one training for all sparsities as accurate as one training per sparsity?

Trains what `configs/comparison/mnist_nested.yaml` and `cifar10_nested.yaml` ask for, measures the frontier of each
nested network, and writes the tables and the picture of `docs/how_sparse.md`. Finished runs are not run again. On one
CPU core a run on MNIST takes a minute, one on CIFAR a quarter of an hour:

    TFDS_DATA_DIR=... python benchmarks/nested.py
    python benchmarks/nested.py --tables               # only tables and picture, from benchmarks/results/nested
"""

import argparse
import json
import pathlib
import shutil

import comparison
import tables

from tfsparse.doctor.frontier import Frontier, Row
from tfsparse.doctor.timing import Summary
from tfsparse.experiments import matrix, plots, run_frontier

RESULTS = tables.ROOT / "benchmarks" / "results" / "nested"
FILES = ("mnist_nested", "cifar10_nested")
LABELS = {
    "nested": "`Nested`: one training for the whole row",
    "nested_longer": "`Nested`, twice the epochs",
    "nested_at_once": "`Nested`, all levels from the first step on",
    "nested_no_decay": "`Nested`, no weight decay",
    "dense": "dense",
    "feather": "Feather: a training for each sparsity",
}


def train(file: str, folder: pathlib.Path) -> None:
    """All runs of a file, their run.json, and the frontiers of the nested networks, among the results."""
    for name, config in matrix.load(tables.CONFIGS / f"{file}.yaml").items():
        result, run = RESULTS / file / f"{name}.json", folder / file / name
        if not result.exists():
            matrix.train({name: config}, folder / file, on_run_begin=lambda name: print(name, flush=True))
            result.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(run / "run.json", result)
        if name.startswith("nested") and not (frontier := result.with_name(f"frontier-{name}.json")).exists():
            frontier.write_text(json.dumps(run_frontier.measure(run).as_dict(), indent=1) + "\n")


def accuracies(file: str, method: str) -> dict[float, list[float]]:
    """Accuracies on the test images in per cent, by sparsity; one per seed."""
    found: dict[float, list[float]] = {}
    for path in sorted((RESULTS / file).glob(f"{method}-*.json")):
        run = json.loads(path.read_text())
        sparsity = run["config"]["prune"]["sparsity"] if run["config"]["prune"] else 0.0
        found.setdefault(sparsity, []).append(100 * run["summary"]["accuracy"])
    return found


def frontiers(file: str, method: str) -> list[dict]:
    """The frontiers that are there, one per seed."""
    return [json.loads(path.read_text()) for path in sorted((RESULTS / file).glob(f"frontier-{method}-seed*.json"))]


def table(file: str) -> str:
    """Methods against sparsities."""
    nested = {m: frontiers(file, m) for m in LABELS if m.startswith("nested")}
    found = {m: _by_sparsity(rows) for m, rows in nested.items() if rows}
    committed = "mnist_lenet300" if file == "mnist_nested" else "cifar10_resnet20"
    found |= {m: accuracies(file, m) for m in ("dense", "feather")}
    columns = sorted({s for row in found.values() for s in row})
    rows = [[LABELS[m], *(tables.mean(row[s]) if s in row else "" for s in columns)] for m, row in found.items() if row]
    rows.append(["the best of [the comparison](comparison.md)", *(_best(committed, s) for s in columns)])
    return tables.markdown(["", *(f"{100 * s:g} % zeros" for s in columns)], rows)


def _by_sparsity(found):
    levels = [row["sparsity"] for row in found[0]["rows"]]
    return {s: [100 * f["rows"][i]["value"] for f in found] for i, s in enumerate(levels)}


def _best(file, sparsity):
    """The best mean of all methods of the comparison at a sparsity."""
    methods = comparison.by_method(file)
    asked = "" if sparsity == 0 else f"{sparsity:g}"
    means = [tables.mean([100 * run["accuracy"] for run in row[asked]]) for row in methods.values() if asked in row]
    return max(means, key=lambda text: float(text.split()[0]), default="")


def forms() -> str:
    """The frontier of the first nested network on MNIST."""
    titles = ["sparsity", "accuracy (95 % interval)", "multiply-adds", "SavedModel, bytes", "TFLite, bytes", "ms"]
    return tables.markdown(titles, [_cells(row) for row in frontiers("mnist_nested", "nested")[0]["rows"]])


def _cells(row):
    accuracy = "{:.2f} ({:.2f} to {:.2f})".format(*(100 * row[name] for name in ("value", "low", "high")))
    sizes = [f"{row[name]:,}" for name in ("macs", "saved_model_bytes", "bytes")]
    ms = "{:.4f} ({:.4f} to {:.4f})".format(*(row["milliseconds"][name] for name in ("median", "min", "max")))
    return [f"{row['sparsity']:g}", accuracy, *sizes, ms]


def picture():
    """The frontier of the first nested network on MNIST, with its knee at two tenths of a point."""
    fields = frontiers("mnist_nested", "nested")[0]
    rows = [Row(**row | {"milliseconds": Summary(**row["milliseconds"])}) for row in fields["rows"]]
    return Frontier(**fields | {"rows": tuple(rows)}).plot(drop=0.002)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", choices=FILES, default=FILES)
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "comparison", help="for the runs")
    parser.add_argument("--tables", action="store_true", help="only write tables and picture")
    arguments = parser.parse_args()
    for which in arguments.files:
        if not arguments.tables:
            train(which, arguments.runs.resolve())
        if frontiers(which, "nested"):
            tables.write("docs/how_sparse.md", which, table(which))
    tables.write("docs/how_sparse.md", "forms", forms())
    plots.save(picture(), tables.ROOT / "docs" / "how_sparse.png")
