"""Are the milliseconds of a frontier those of another process?

Measures the frontier of `nested-seed0` in `configs/comparison/mnist_nested.yaml` twice, in two processes one after the
other, and says whether the medians of the second are within the intervals of the first. Writes a table of
`docs/how_sparse.md`. The network is trained first, unless it is there: a minute on one CPU core.

    TFDS_DATA_DIR=... python benchmarks/frontier_again.py
    python benchmarks/frontier_again.py --tables          # only the table, from benchmarks/results/nested/again.json
"""

import argparse
import json
import pathlib

import machine
import tables

from tfsparse.backend import child_process
from tfsparse.experiments import matrix, run_frontier

FILE, RUN, DROP = "mnist_nested", "nested-seed0", 0.002
RESULT = tables.ROOT / "benchmarks" / "results" / "nested" / "again.json"
LIMIT = 3600  # seconds for one frontier


def measure(folder: pathlib.Path) -> dict:
    """The frontier in two processes, and the level that a user would choose by the first."""
    config = matrix.load(tables.CONFIGS / f"{FILE}.yaml")[RUN]
    matrix.train({RUN: config}, folder / FILE, on_run_begin=lambda name: print(name, flush=True))
    about = {"machine": machine.describe(), "drop": DROP}
    first, again = (child_process.call(run_frontier.measure, folder / FILE / RUN, seconds=LIMIT) for _ in range(2))
    return about | {"chosen": first.knee(DROP), "first": first.as_dict(), "again": again.as_dict()}


def table() -> str:
    """One row for each level, and what the machine did meanwhile."""
    result = json.loads(RESULT.read_text())
    pairs = zip(result["first"]["rows"], result["again"]["rows"], strict=True)
    titles = ["sparsity", "ms", "ms in the second process", "its median is within the first interval"]
    rows = tables.markdown(titles, [_cells(first, again, result["chosen"]) for first, again in pairs])
    load, cores = result["machine"]["load_average"][0], result["machine"]["cores"]
    return f"{rows}\n\nWhen this was measured, {load:g} programs were running on average on {cores} cores."


def _cells(first, again, chosen):
    level = f"{first['sparsity']:g}" + (", chosen" if first["sparsity"] == chosen else "")
    interval, other = first["milliseconds"], again["milliseconds"]
    agrees = interval["min"] <= other["median"] <= interval["max"]
    return [level, _text(interval), _text(other), "yes" if agrees else "no"]


def _text(ms):
    return f"{ms['median']:.4f} ({ms['min']:.4f} to {ms['max']:.4f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "comparison", help="for the run")
    parser.add_argument("--tables", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    if not arguments.tables:
        machine.write(RESULT, measure(arguments.runs.resolve()))
    tables.write("docs/how_sparse.md", "again", table())
