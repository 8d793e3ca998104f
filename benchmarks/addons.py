"""Do add-ons raise accuracy?

Trains what `configs/comparison/mnist_addons.yaml` and `digits_addons.yaml` ask for, and writes the tables of
`docs/methods.md`. Each method with an add-on is compared with the same method without one, by seed; on MNIST those are
the runs of `comparison.py`. Finished runs are not run again. On one CPU core a run takes one or two minutes:

    TFDS_DATA_DIR=... python benchmarks/addons.py
    python benchmarks/addons.py --tables               # only tables, from benchmarks/results/addons
"""

import argparse
import json
import pathlib
import shutil

import comparison
import tables

from tfsparse.experiments import matrix
from tfsparse.experiments.differences import paired

RESULTS = tables.ROOT / "benchmarks" / "results" / "addons"
FILES = {"mnist_addons": comparison.RESULTS / "mnist_lenet300", "digits_addons": RESULTS / "digits_addons"}
NAMES = {"ham": "HAM", "sparse_opt": "SparseOpt"}


def train(file: str, folder: pathlib.Path, seeds: list[int]) -> None:
    """The runs of a file with some seeds, and their run.json among the results."""
    for name, config in matrix.load(tables.CONFIGS / f"{file}.yaml").items():
        result = RESULTS / file / f"{name}.json"
        if result.exists() or config.seed not in seeds:
            continue
        matrix.train({name: config}, folder / file, on_run_begin=lambda name: print(name, flush=True))
        result.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / file / name / "run.json", result)


def accuracies(folder: pathlib.Path, method: str) -> dict[int, float]:
    """Accuracies on the test images in per cent, by seed."""
    summaries = [json.loads(path.read_text())["summary"] for path in folder.glob(f"{method}-0.98-*.json")]
    return {summary["seed"]: 100 * summary["accuracy"] for summary in summaries}


def table(file: str) -> str:
    """A row for each method: accuracy without an add-on, with each, and the difference by seed."""
    rows = [[method, *_cells(file, method)] for method in ("rigl", "agp", "feather")]
    return tables.markdown(["98 % zeros", "without", *(f"with {name}" for name in NAMES.values())], rows)


def _cells(file, method):
    without = accuracies(FILES[file], method)
    yield f"{tables.mean(list(without.values()))} (n = {len(without)})" if without else ""
    for addon in NAMES:
        found = accuracies(RESULTS / file, f"{method}_{addon}")
        difference = paired(found, without) if found else None
        yield f"{tables.mean(list(found.values()))}; {difference.marked(2)}" if difference else ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="only these")
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "addons", help="for the runs")
    parser.add_argument("--tables", action="store_true", help="only write tables")
    arguments = parser.parse_args()
    for which in arguments.files:
        if not arguments.tables:
            train(which, arguments.runs.resolve(), arguments.seeds)
        tables.write("docs/methods.md", which, table(which))
