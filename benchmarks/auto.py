"""Does `Prune(sparsity="auto")` find the highest sparsity at which validation holds?

Trains what `configs/comparison/auto_*.yaml` ask for, and for each automatic run one that goes two points of zeros
further in the same way, and writes the table of `docs/how_sparse.md`. Finished runs are not run again. On one CPU core
a run takes 10 seconds (digits), one minute (MNIST) and some minutes (CIFAR-10):

    TFDS_DATA_DIR=... python benchmarks/auto.py
    python benchmarks/auto.py --tables               # only the table, from benchmarks/results/auto
"""

import argparse
import json
import pathlib
import shutil

import tables

from tfsparse.experiments import config as configs
from tfsparse.experiments import matrix
from tfsparse.schedules import Auto, auto

RESULTS = tables.ROOT / "benchmarks" / "results" / "auto"
FILES = {
    "auto_digits": "digits, LeNet-300-100",
    "auto_mnist": "MNIST, LeNet-300-100",
    "auto_cifar10": "CIFAR-10 at 16x16, LeNet-5",
}
MORE = 0.02
AFTER = ("zeros further", "accuracy", "verdict")


def train(file: str, folder: pathlib.Path) -> None:
    """All runs of a file, and for each automatic one the run that goes further; their run.json among the results."""
    for name, config in matrix.load(tables.CONFIGS / f"{file}.yaml").items():
        record = run(file, name, config, folder)
        found = record["summary"]["sparsity"]
        if name.startswith("auto") and found:
            run(file, name.replace("auto", "further"), further(config, found), folder)


def run(file: str, name: str, config, folder: pathlib.Path) -> dict:
    """Train a config, unless its result is there, and return its record."""
    result = RESULTS / file / f"{name}.json"
    if not result.exists():
        matrix.train({name: config}, folder / file, on_run_begin=lambda name: print(file, name, flush=True))
        result.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / file / name / "run.json", result)
    return json.loads(result.read_text())


def further(config, found: float):
    """Return the config of a run whose levels all hold: those up to the one that was found, and the next one."""
    more = min(found + MORE, (1 + found) / 2)
    levels = [*(level for level in Auto().levels if level < found - 1e-3), round(found, 4), round(more, 4)]
    values = config.model_dump(mode="json")
    schedule = search(values).get_config() | {"name": "auto", "levels": levels, "drop": 0.49}
    return configs.validate(values | {"prune": {"sparsity": "auto", "schedule": schedule}})


def search(config: dict) -> Auto:
    """Return the schedule of an automatic run."""
    prune = config["prune"]
    return auto.for_prune(prune["schedule"], "auto", prune["drop"])[0]


def table() -> str:
    """One row for each automatic run."""
    return tables.markdown(
        ["data, network", "seed", "dense until", "`drop`", "dense", "zeros found", "accuracy", *AFTER],
        [row(file, path) for file in FILES for path in sorted((RESULTS / file).glob("auto*-*.json"))],
    )


def row(file: str, path: pathlib.Path) -> list[str]:
    """The cells of an automatic run, with the dense one and the one that goes further."""
    seed = path.stem.split("-")[1]
    paths = (path, path.with_name(f"dense-{seed}.json"), path.with_name(path.name.replace("auto", "further")))
    record, dense, more = (json.loads(p.read_text()) if p.exists() else None for p in paths)
    found, dense, more = (r and r["summary"] for r in (record, dense, more))
    schedule = search(record["config"])
    limit = dense["accuracy"] - schedule.drop - 1e-6
    beyond = [f"{more['sparsity']:.3f}", accuracy(more)] if more else ["", ""]
    first = [FILES[file], seed.removeprefix("seed"), f"{schedule.dense_until:.0%}", f"{100 * schedule.drop:g} points"]
    reached = [accuracy(dense), f"{found['sparsity']:.3f}", accuracy(found)]
    return [*first, *reached, *beyond, verdict(found, more, limit)]


def accuracy(summary: dict) -> str:
    """Accuracy in per cent."""
    return f"{100 * summary['accuracy']:.2f}"


def verdict(found: dict, more: dict | None, limit: float) -> str:
    """Whether the run is within the drop of the dense run, and the run that goes further is not."""
    if found["accuracy"] < limit:
        return "too far"
    return "kept; further misses" if more is None or more["accuracy"] < limit else "kept; further too"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "auto", help="for the runs")
    parser.add_argument("--tables", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    for which in arguments.files:
        if not arguments.tables:
            train(which, arguments.runs.resolve())
    tables.write("docs/how_sparse.md", "auto", table())
