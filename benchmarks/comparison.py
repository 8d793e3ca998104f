"""Which method keeps most accuracy, and which trains cheapest, in one equal budget?

Trains what the files in `configs/comparison/` ask for, as `tfsparse matrix` does, keeps every run.json, and writes
the tables and pictures of `docs/comparison.md`. Finished runs are not run again, broken-off ones are
resumed.
On one CPU core a run of LeNet-300-100 takes a minute, one of ResNet-20 a quarter of an hour:

    TFDS_DATA_DIR=... python benchmarks/comparison.py
    python benchmarks/comparison.py --tables          # only tables and pictures, from benchmarks/results/comparison
"""

import argparse
import json
import pathlib
import shutil

import tables

from tfsparse.experiments import matrix, plots
from tfsparse.experiments.differences import paired

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "comparison"
FILES = {"mnist_lenet300": "MNIST", "cifar10_resnet20": "CIFAR-10"}
HIGH = {"mnist_99": "MNIST"}  # higher sparsities
CHANNELS = {"digits_channels": "digits"}  # of channels, in docs/methods.md
SPARSE_START = "mnist_sparse_start"
SCHEDULES = ("mnist_schedules", "mnist_schedules_80")  # by scope
WINDOWS = "mnist_windows"  # of the schedules with one threshold, other than the usual ones
EXCHANGES = ("mnist_exchange", "digits_exchange")  # of SET and RigL, how often
MLP = "mnist_mlp_99"  # a larger network at 99 %, beside what is published of it
PUBLISHED = {"dense": "98.78", "set": "98.14", "rigl": "98.61", "agp": "98.62"}  # of arXiv 2501.19107; AGP: GMP


def train(file: str, folder: pathlib.Path, methods: list[str] | None) -> None:
    """All runs of a file, or those of some methods, and their run.json among the results."""
    for name, config in matrix.load(tables.CONFIGS / f"{file}.yaml").items():
        result = RESULTS / file / f"{name}.json"
        if result.exists() or name.split("-")[0] not in (methods or [name.split("-")[0]]):
            continue
        matrix.train({name: config}, folder / file, on_run_begin=lambda name: print(name, flush=True))
        result.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / file / name / "run.json", result)


def finished(file: str) -> dict[str, dict]:
    """The runs that are there, by name, in the order of the file."""
    names = matrix.load(tables.CONFIGS / f"{file}.yaml")
    paths = {name: RESULTS / file / f"{name}.json" for name in names}
    return {name: _counted(json.loads(path.read_text())) for name, path in paths.items() if path.exists()}


def _counted(run):
    """The run with its training complexity. Those from before it was looked at within epochs know the share of
    multiply-adds at the ends of the epochs alone, and each epoch is taken for the mean of its two ends."""
    if "mean_macs_share" in run["epochs"][0]:
        return run
    ends = [epoch["macs_share"] for epoch in run["epochs"]]
    if "uncut_accuracy" in run["epochs"][-1]:
        ends[-1] = ends[-2]  # the cut came after the last step
    is_sparse_all_along = run["config"]["prune"] and run["config"]["prune"]["schedule"]["name"] == "constant"
    first = ends[0] if is_sparse_all_along else 1.0
    run["summary"]["training_complexity"] = (first / 2 + sum(ends) - ends[-1] / 2) / len(ends)
    return run


def by_method(file: str) -> dict[str, dict[str, list[dict]]]:
    """Summaries of a file's runs, by method and asked sparsity; of the dense one's by an empty string."""
    found: dict[str, dict[str, list[dict]]] = {}
    for name, run in finished(file).items():
        method, *asked, _ = name.split("-")
        found.setdefault(method, {}).setdefault(asked[0] if asked else "", []).append(run["summary"])
    return found


def table(*files: str) -> str:
    """Methods against sparsities: accuracy, and training complexity in brackets."""
    found = {file: by_method(file) for file in files}
    asked_in = {file: sorted({asked for row in rows.values() for asked in row} - {""}) for file, rows in found.items()}
    columns = [(file, asked) for file in files for asked in asked_in[file]]
    titles = [f"{(FILES | HIGH | CHANNELS)[file]}, {100 * float(asked):g} % zeros" for file, asked in columns]
    methods = dict.fromkeys(method for rows in found.values() for method in rows)
    rows = [[method, *(cell(found[f].get(method, {}), asked) for f, asked in columns)] for method in methods]
    return tables.markdown(["", *titles], rows)


def schedules() -> dict[str, dict[str, list[dict]]]:
    """Summaries of the schedules, by scope; those with a global scope of all methods' matrix among them."""
    of_all, of_scopes, rest = map(by_method, ("mnist_lenet300", *SCHEDULES))
    usual = {f"{name}_global": of_all[name] | rest.get(f"{name}_global", {}) for name in ("one_cycle", "agp")}
    return usual | of_scopes


def schedule_table() -> str:
    """Schedules and scopes against sparsities: accuracy, and the difference to One-Cycle with the same scope."""
    return _against_one_cycle(schedules())


def window_table() -> str:
    """The schedules with one threshold, in their usual windows and in others, and the difference to One-Cycle."""
    usual = {name: row for name, row in schedules().items() if name.endswith("_global")}
    found = dict(sorted((usual | by_method(WINDOWS)).items()))
    asked = {asked for row in by_method(WINDOWS).values() for asked in row}
    return _against_one_cycle({n: {a: runs for a, runs in row.items() if a in asked} for n, row in found.items()})


def _against_one_cycle(found):
    theirs = {name: _accuracies(row) for name, row in found.items() if name.startswith("one_cycle_")}
    asked_in = sorted({asked for row in found.values() for asked in row})
    rows = []
    for name, row in found.items():
        reference = theirs.get(f"one_cycle_{name.rpartition('_')[2]}", theirs["one_cycle_global"])
        rows.append([name, *(_with_difference(row.get(asked), reference.get(asked, {})) for asked in asked_in)])
    return tables.markdown(["", *(f"{100 * float(asked):g} % zeros" for asked in asked_in)], rows)


def _with_difference(runs, theirs):
    if not runs:
        return ""
    ours = {run["seed"]: 100 * run["accuracy"] for run in runs}
    difference = "" if ours == theirs else _difference(ours, theirs)
    return "; ".join(filter(None, [f"{tables.mean(list(ours.values()))} (n = {len(ours)})", difference]))


def differences(file: str, reference: str = "one_cycle") -> str:
    """Each method's accuracy minus the reference's, by seed, with the 95 % t interval; ~ where zero is in it."""
    found = by_method(file)
    accuracies = {method: _accuracies(row) for method, row in found.items()}
    columns = sorted(accuracies[reference])
    rows = [
        [method, *(_difference(row.get(asked, row.get("", {})), accuracies[reference][asked]) for asked in columns)]
        for method, row in accuracies.items()
        if method != reference
    ]
    return tables.markdown(["", *(f"{100 * float(asked):g} % zeros" for asked in columns)], rows)


def _accuracies(row):
    """`{asked: {seed: accuracy in per cent}}` of a method."""
    return {asked: {run["seed"]: 100 * run["accuracy"] for run in runs} for asked, runs in row.items()}


def _difference(ours, theirs):
    found = paired(ours, theirs)
    return found.marked(2) if found else ""


def exchanges(file: str) -> str:
    """SET and RigL by how often they exchange weights, and the difference between 20 and 100 times, by seed; on MNIST
    the default is among the runs of all methods."""
    found = by_method(file)
    if file == "mnist_exchange":
        found |= {f"{method}_100": by_method("mnist_lenet300")[method] for method in ("set", "rigl")}
    names = sorted(found, key=lambda name: (not name.startswith("set"), -_times(name)))
    asked = sorted({asked for row in found.values() for asked in row})
    rows = [[f"{name.split('_')[0]}, {_times(name)} times", *(cell(found[name], a) for a in asked)] for name in names]
    for method in dict.fromkeys(name.split("_")[0] for name in names):
        often, seldom = (_accuracies(found[f"{method}_{times}"]) for times in (100, 20))
        rows.append([f"{method}, 20 minus 100 times", *(_difference(seldom[a], often[a]) for a in asked)])
    return tables.markdown(["", *(f"{100 * float(a):g} % zeros" for a in asked)], rows)


def sparse_start() -> str:
    """The methods whose network is sparse from the first step, among them those of other files, at one sparsity."""
    of_all, exchanges_ = by_method("mnist_lenet300"), by_method("mnist_exchange")
    found = {"set": of_all["set"], "rigl": of_all["rigl"], "rigl_20": exchanges_["rigl_20"]} | by_method(SPARSE_START)
    return tables.markdown(["", "98 % zeros"], [[name, cell(row, "0.98")] for name, row in found.items()])


def mlp() -> str:
    """The larger network: accuracy and training complexity, and the published accuracy of a far longer training."""
    rows = [[name, cell(row, "0.99"), PUBLISHED.get(name, "")] for name, row in by_method(MLP).items()]
    return tables.markdown(["", "99 % zeros, 5 epochs", "published, 100 epochs"], rows)


def _times(name):
    return int(name.split("_")[1])


def cell(row: dict[str, list[dict]], asked: str) -> str:
    """Mean accuracy and training complexity of a method's runs; an empty string if there are none."""
    runs = row.get(asked, row.get("", []))
    if not runs:
        return ""
    complexity = sum(run["training_complexity"] for run in runs) / len(runs)
    return f"{tables.mean([100 * run['accuracy'] for run in runs])} ({complexity:.2f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*FILES, *HIGH, *CHANNELS, SPARSE_START, *SCHEDULES, WINDOWS, *EXCHANGES, MLP]
    parser.add_argument("--files", nargs="+", choices=every, default=every)
    parser.add_argument("--methods", nargs="+", help="only these, by their names in the file")
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "comparison", help="for the runs")
    parser.add_argument("--tables", action="store_true", help="only write tables and pictures")
    arguments = parser.parse_args()
    for which in arguments.files:
        if not arguments.tables:
            train(which, arguments.runs.resolve(), arguments.methods)
        if which in FILES and (runs := finished(which)):
            picture = tables.ROOT / "docs" / f"comparison_{which}.png"
            plots.save(plots.comparison(list(runs.values())), picture, overwrite=True)
    tables.write("docs/comparison.md", "differences", differences("mnist_lenet300"))
    tables.write("docs/comparison.md", "mnist_schedules", schedule_table())
    tables.write("docs/comparison.md", WINDOWS, window_table())
    for file in HIGH:
        tables.write("docs/comparison.md", file, table(file))
    for file in CHANNELS:
        tables.write("docs/methods.md", file, table(file))
    tables.write("docs/comparison.md", SPARSE_START, sparse_start())
    tables.write("docs/comparison.md", MLP, mlp())
    for file in EXCHANGES:
        tables.write("docs/comparison.md", file, exchanges(file))
    tables.write("docs/comparison.md", "comparison", table(*FILES))
