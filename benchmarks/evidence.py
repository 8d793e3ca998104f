"""What does a sparse LeNet-300-100 cost to train, against prior works' three stages and iterative pruning?

Trains `configs/comparison/mnist_cost.yaml`, and what begins from its dense runs: three stages whose fine-tuning has a
learning rate of its own, and iterative magnitude pruning with rewinding. Together with the runs of `comparison.py` they
make the tables and the picture of `docs/evidence.md`. Finished runs are not run again, broken-off ones are resumed:

    TFDS_DATA_DIR=... python benchmarks/evidence.py
    python benchmarks/evidence.py --tables               # only tables and picture, from benchmarks/results
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics

import comparison
import numpy as np
import pll
import tables
from matplotlib.figure import Figure

import tfsparse
from tfsparse import pruners, schedules
from tfsparse.backend import run_directory
from tfsparse.experiments import config as configs
from tfsparse.experiments import matrix, plots
from tfsparse.experiments.differences import Difference, paired
from tfsparse.experiments.run_config import RunConfig

FILE = tables.ROOT / "configs" / "comparison" / "mnist_cost.yaml"
RESULTS = tables.ROOT / "benchmarks" / "results" / "evidence"
SEEDS = (0, 1, 2)
SPARSITIES = (0.95, 0.98, 0.9)  # in the order in which they are trained
FINE_TUNING = {"fine_tuned": "{name: one_cycle, max: 0.1}", "fine_tuned_low": "0.01"}  # the learning rates
FINE_TUNING_EPOCHS = 4
ROUNDS = (0.8, 0.95, 0.98)  # the sparsities of iterative pruning, one after another
PRUNER = "{name: magnitude, scope: global}"
PARTS = ((schedules, "schedule"), (pruners, "pruner"))  # of the section `prune`
STEPS_PER_EPOCH = {"mnist": 60000 // 128, "cifar10_jpeg": 50000 // 128}
BUDGET = 10  # epochs of a dense training, whose FLOPs are 1
LABELS = {
    "dense": "dense",
    "three_stages": "three stages, one cycle of the rate",
    "fine_tuned": "three stages, a cycle of its own for each training",
    "fine_tuned_low": "three stages, fine-tuning at a low rate",
    "rewound": "iterative pruning with rewinding",
    "one_cycle": "One-Cycle",
    "agp": "AGP, 0 to 80 % of training",
    "agp_10_40": "AGP, 10 to 40 %",
    "agp_0_30": "AGP, 0 to 30 %",
    "pll": "PLL",
    "dst": "DST",
    "feather": "Feather",
    "acdc": "AC/DC",
    "set": "SET",
    "rigl": "RigL",
}
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)  # of the picture, in training FLOPs
PRIOR = "fine_tuned"  # the most accurate of the three stages


def names() -> list[str]:
    """All runs, in the order in which they are trained."""
    tuned = [f"{method}-{s:g}-seed{seed}" for seed in SEEDS for s in SPARSITIES for method in FINE_TUNING]
    return [*matrix.load(FILE), *tuned, *(f"rewound-{s:g}-seed{seed}" for seed in SEEDS for s in ROUNDS)]


def parts(name: str) -> tuple[str, float, int]:
    """Method, sparsity and seed of the name of a run."""
    method, *asked, seed = name.split("-")
    return method, float(asked[0]) if asked else 0.0, int(seed.removeprefix("seed"))


def earlier(name: str) -> list[str]:
    """The trainings that a run needs before it."""
    method, sparsity, seed = parts(name)
    rounds = [f"rewound-{s:g}-seed{seed}" for s in ROUNDS if s < sparsity] if method == "rewound" else []
    return [f"dense-seed{seed}", *rounds] if method in (*FINE_TUNING, "rewound") else []


def config_of(name: str) -> RunConfig:
    """The config of a run, with the files of the runs before it relative to the current folder."""
    known = matrix.load(FILE)
    if name in known:
        return known[name]
    method, sparsity, seed = parts(name)
    if method == "rewound":  # iterative pruning: the first weights again, with the mask of the last cut
        sets = [f"start={{mask: {_mask(name)}}}"]
    else:  # the second and the third stage: cut the dense network in the first step, and fine-tune
        prune = f"{{schedule: {{name: one_shot, start: 0.0}}, pruner: {PRUNER}, sparsity: {sparsity}}}"
        sets = [f"optimizer.learning_rate={FINE_TUNING[method]}", f"prune={prune}", f"epochs={FINE_TUNING_EPOCHS}"]
        sets += [f"start={{weights: {earlier(name)[-1]}/model.keras}}"]
    return configs.validate(configs.read(FILE)["base"], [*sets, f"seed={seed}"], source=str(FILE))


def train(name: str) -> None:
    """Train a run into the current folder, after the runs that it needs. What is finished is not trained again."""
    for before in earlier(name)[-1:]:
        train(before)
    if parts(name)[0] == "rewound" and not pathlib.Path(_mask(name)).exists():
        model = run_directory.read_model(pathlib.Path(earlier(name)[-1], "model.keras"), compiled=False)
        tfsparse.prune(model, parts(name)[1], tfsparse.Magnitude(scope="global"))
        model.save(_mask(name))
    matrix.train({name: config_of(name)}, ".", on_run_begin=lambda name: print(name, flush=True))


def _mask(name):
    return name.replace("rewound", "cut") + ".keras"


def run_all() -> None:
    """Train every run that is not among the results, in the current folder, and keep its run.json."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names():
        if not (RESULTS / f"{name}.json").exists():
            train(name)
            shutil.copy(pathlib.Path(name, "run.json"), RESULTS / f"{name}.json")


# ------------------------------------------------------------------------------------------------- accuracy and FLOPs


def records(network: str) -> dict[str, dict]:
    """All runs of a network that are there, by name: those of `comparison.py`, and of MNIST those of this file."""
    own = sorted(RESULTS.glob("*.json")) if network == "mnist_lenet300" else []
    return comparison.finished(network) | {path.stem: json.loads(path.read_text()) for path in own}


def flops(method: str, run: dict) -> float:
    """FLOPs of one training over those of the dense one: 3 f(density) per example and step, as RigL counts them."""
    share = run["summary"]["training_complexity"]
    return len(run["epochs"]) / BUDGET * (share + _uncounted(method, share, run))


def _uncounted(method, share, run):
    """What the share of the multiply-adds of a forward pass leaves out, over a dense training of the same length."""
    if method in ("feather", "dst"):  # the gradients of all weights, a third of a dense step
        return (1 - share) / 3
    if method == "rigl":  # the same at each exchange
        return _exchanges_per_step(run) * (1 - share) / 3
    return _measuring(run) if method == "pll" and run["summary"]["data"] == "mnist" else 0.0


def _exchanges_per_step(run):
    schedule, pruner = (_made(kind, run["config"]["prune"][key]) for kind, key in PARTS)
    total = len(run["epochs"]) * STEPS_PER_EPOCH[run["summary"]["data"]]
    last = int(pruner.end * total)
    return float(np.sum(schedule.due(np.arange(1, last + 1), total))) / total


def _made(kind, section):
    return kind.get(section["name"], **{key: value for key, value in section.items() if key != "name"})


def _measuring(run):
    """PLL's products with the Hessian, as `pll.py` counted them in trainings of 8 epochs at the nearest sparsity."""
    sparsity = min(pll.SPARSITIES, key=lambda s: abs(s - run["summary"]["asked_sparsity"]))
    measured = json.loads(pll.RESULTS.read_text())
    runs = [measured[pll.key("mnist", "pll", sparsity, seed)] for seed in pll.SEEDS]
    return statistics.fmean(run["flops_measuring"] for run in runs) * pll.TASKS["mnist"]["epochs"] / BUDGET


def results(network: str) -> dict[str, dict[float, dict[int, tuple[float, float]]]]:
    """`{method: {sparsity: {seed: (accuracy in per cent, FLOPs of all its trainings)}}}`."""
    found = records(network)
    table: dict[str, dict[float, dict[int, tuple[float, float]]]] = {}
    for name, run in found.items():
        method, sparsity, seed = parts(name)
        cost = sum(flops(parts(each)[0], found[each]) for each in (*earlier(name), name))
        table.setdefault(method, {}).setdefault(sparsity, {})[seed] = 100 * run["summary"]["accuracy"], cost
    return {method: table[method] for method in LABELS if method in table}


def means(row: dict[int, tuple[float, float]]) -> tuple[float, float]:
    """Mean accuracy and mean FLOPs over the seeds."""
    return tuple(map(statistics.fmean, zip(*row.values(), strict=True)))


def front(found: dict, sparsity: float) -> list[str]:
    """The Pareto front of the means at a sparsity: no other method is as accurate and cheaper. The cheapest first."""
    points = {method: means(rows[sparsity]) for method, rows in found.items() if sparsity in rows}
    chosen: list[str] = []
    for method in sorted(points, key=lambda m: (points[m][1], -points[m][0])):
        if not chosen or points[method][0] > points[chosen[-1]][0]:
            chosen.append(method)
    return chosen


# ------------------------------------------------------------------------------------------------- tables and picture


def costs(network: str) -> str:
    """Accuracy and FLOPs of every method; a star where it is on the front."""
    found = results(network)
    asked = _sparsities(found)
    on = {s: front(found, s) for s in asked}
    rows = [[LABELS[m], *(_cell(rows.get(s), m in on[s]) for s in asked)] for m, rows in found.items() if m != "dense"]
    return tables.markdown(["", *(f"{100 * s:g} % zeros" for s in asked)], rows)


def _cell(row, is_on_front):
    if not row:
        return ""
    count = f", n = {len(row)}" if len(row) != len(SEEDS) else ""
    accuracies = [accuracy for accuracy, _ in row.values()]
    return f"{tables.mean(accuracies)} ({means(row)[1]:.3f}{count}){' *' * is_on_front}"


def ratios() -> str:
    """How many times fewer FLOPs than the three stages a method needs, and the difference in accuracy, by seed."""
    found = results("mnist_lenet300")
    asked = _sparsities(found)
    rows = [
        [LABELS[m], *(_ratio(found[PRIOR].get(s), rows.get(s)) for s in asked)]
        for m, rows in found.items()
        if m not in ("dense", PRIOR)
    ]
    return tables.markdown(["", *(f"{100 * s:g} % zeros" for s in asked)], rows)


def _ratio(theirs, ours):
    if not theirs or not ours:
        return ""
    accuracy, times = compared(theirs, ours)
    margin = "" if times.margin is None else f" ± {times.margin:.1f}"
    return f"{accuracy.text(2)}{' ~' * accuracy.is_noise}; {times.mean:.1f}{margin} times"


def compared(theirs: dict, ours: dict) -> tuple[Difference, Difference]:
    """Accuracy of ours minus theirs, and FLOPs of theirs over ours: means over common seeds, with t intervals."""
    accuracy = paired(*({seed: figures[0] for seed, figures in row.items()} for row in (ours, theirs)))
    ratio = {seed: theirs[seed][1] / ours[seed][1] for seed in theirs.keys() & ours.keys()}
    return accuracy, paired(ratio, dict.fromkeys(ratio, 0.0))


def headline() -> str:
    """For each sparsity the method with the fewest FLOPs that is at least as accurate as the three stages."""
    found = results("mnist_lenet300")
    rows = []
    for s in _sparsities(found):
        prior = found[PRIOR].get(s, {})
        least = [m for m in front(found, s) if m != PRIOR and prior and means(found[m][s])[0] >= means(prior)[0]]
        if least:
            accuracy, times = compared(prior, found[least[0]][s])
            margin = "" if times.margin is None else f" ± {times.margin:.2f}"
            rows.append([
                f"{100 * s:g} %",
                _cell(prior, False),
                LABELS[least[0]],
                _cell(found[least[0]][s], False),
                accuracy.text(2) + " ~" * accuracy.is_noise,
                f"**{times.mean:.1f}**{margin}",
            ])
    titles = ["zeros", LABELS[PRIOR], "the cheapest that is as accurate", "", "difference", "times fewer FLOPs"]
    return tables.markdown(titles, rows)


def _sparsities(found):
    return sorted({s for rows in found.values() for s in rows} & set(SPARSITIES))


def picture(network: str) -> Figure:
    """Accuracy against training FLOPs, one panel for each sparsity, with the front."""
    found = results(network)
    asked = _sparsities(found)
    figure = Figure(figsize=(2 + 4.5 * len(asked), 5), layout="constrained")
    for axes, sparsity in zip(figure.subplots(1, len(asked), squeeze=False)[0], asked, strict=True):
        _panel(axes, found, sparsity)
    figure.axes[0].set_ylabel("accuracy on the test set, %")
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside right upper", frameon=False)
    return figure


def _panel(axes, found, sparsity):
    for number, (method, rows) in enumerate(found.items()):
        if sparsity in rows:
            accuracy, cost = means(rows[sparsity])
            values = [a for a, _ in rows[sparsity].values()]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            style = {"color": f"C{number % 10}", "marker": "osD^vPX*"[number % 8], "linestyle": "none"}
            axes.errorbar(cost, accuracy, spread, label=LABELS[method], markersize=6, elinewidth=1, **style)
    if 0.0 in found.get("dense", {}):
        axes.axhline(means(found["dense"][0.0])[0], color="gray", linestyle="--", label="dense, costs 1")
    points = [means(found[method][sparsity])[::-1] for method in front(found, sparsity)]
    axes.plot(*zip(*points, strict=True), color="black", linewidth=1, zorder=0, label="Pareto front of the means")
    axes.set(xscale="log", xlabel="training FLOPs (1: dense)", title=f"{100 * sparsity:g} % zeros")
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "evidence", help="for the runs")
    parser.add_argument("--tables", action="store_true", help="only write tables and picture")
    arguments = parser.parse_args()
    if not arguments.tables:
        folder = arguments.runs.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)  # so that run.json has no path of this machine
        run_all()
    for network in comparison.FILES:
        tables.write("docs/evidence.md", f"costs-{network}", costs(network))
        plots.save(picture(network), tables.ROOT / "docs" / f"evidence_{network}.png", overwrite=True)
    tables.write("docs/evidence.md", "ratios", ratios())
    tables.write("docs/evidence.md", "headline", headline())
