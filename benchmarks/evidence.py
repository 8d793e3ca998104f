"""What does a sparse network cost to train, against prior works' three stages and iterative pruning?

Trains `configs/comparison/mnist_cost.yaml`, `mnist_front.yaml` and `cifar10_cost.yaml`, and what begins from their
dense runs: three stages whose fine-tuning has a learning rate of its own, and iterative magnitude pruning with
rewinding. Together with the runs of `comparison.py` they make the tables and pictures of `docs/evidence.md`. Finished
runs are not run again, broken-off ones are resumed:

    TFDS_DATA_DIR=... python benchmarks/evidence.py --networks mnist_lenet300
    python benchmarks/evidence.py --tables               # only tables and pictures, from benchmarks/results
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
from tfsparse.methods.pll import rules as pll_rules

FILES = {"mnist_lenet300": ("mnist_cost", "mnist_front"), "cifar10_resnet20": ("cifar10_cost",)}  # in tables.CONFIGS
RESULTS = tables.ROOT / "benchmarks" / "results" / "evidence"
SEEDS = (0, 1, 2)
SPARSITIES = (0.95, 0.98, 0.9)  # in the order in which they are trained
FINE_TUNING = {"fine_tuned": "{name: one_cycle, max: 0.1}", "fine_tuned_low": "0.01"}  # the learning rates
FINE_TUNING_EPOCHS = 4
LATER = {"mnist_lenet300": (*FINE_TUNING, "rewound"), "cifar10_resnet20": ("fine_tuned",)}  # begin from earlier runs
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
WINDOWS = ("agp_0_30", "agp_10_40", "agp")  # the same schedule and pruner in three windows


def names(network: str) -> list[str]:
    """All runs of a network, seed by seed."""
    asked = [(method, s) for method in LATER[network] for s in (ROUNDS if method == "rewound" else SPARSITIES)]
    later = [f"{method}-{s:g}-seed{seed}" for seed in SEEDS for method, s in asked]
    return sorted([*_written(network), *later], key=lambda name: parts(name)[2])


def _written(network):
    """The runs that are written in the files of a network, by name."""
    return {name: run for file in FILES[network] for name, run in matrix.load(tables.CONFIGS / f"{file}.yaml").items()}


def parts(name: str) -> tuple[str, float, int]:
    """Method, sparsity and seed of the name of a run."""
    method, *asked, seed = name.split("-")
    return method, float(asked[0]) if asked else 0.0, int(seed.removeprefix("seed"))


def earlier(name: str) -> list[str]:
    """The trainings that a run needs before it."""
    method, sparsity, seed = parts(name)
    rounds = [f"rewound-{s:g}-seed{seed}" for s in ROUNDS if s < sparsity] if method == "rewound" else []
    return [f"dense-seed{seed}", *rounds] if method in (*FINE_TUNING, "rewound") else []


def config_of(network: str, name: str) -> RunConfig:
    """The config of a run, with the files of the runs before it relative to the current folder."""
    written = _written(network)
    if name in written:
        return written[name]
    method, sparsity, seed = parts(name)
    if method == "rewound":  # iterative pruning: the first weights again, with the mask of the last cut
        sets = [f"start={{mask: {_mask(name)}}}"]
    else:  # the second and the third stage: cut the dense network in the first step, and fine-tune
        prune = f"{{schedule: {{name: one_shot, start: 0.0}}, pruner: {PRUNER}, sparsity: {sparsity}}}"
        sets = [f"optimizer.learning_rate={FINE_TUNING[method]}", f"prune={prune}", f"epochs={FINE_TUNING_EPOCHS}"]
        sets += [f"start={{weights: {earlier(name)[-1]}/model.keras}}"]
    file = tables.CONFIGS / f"{FILES[network][0]}.yaml"
    return configs.validate(configs.read(file)["base"], [*sets, f"seed={seed}"], source=str(file))


def train(network: str, name: str) -> None:
    """Train a run into the current folder, after the runs that it needs. What is finished is not trained again."""
    for before in earlier(name)[-1:]:
        train(network, before)
    if parts(name)[0] == "rewound" and not pathlib.Path(_mask(name)).exists():
        model = run_directory.read_model(pathlib.Path(earlier(name)[-1], "model.keras"), compiled=False)
        tfsparse.prune(model, parts(name)[1], tfsparse.Magnitude(scope="global"))
        model.save(_mask(name))
    matrix.train({name: config_of(network, name)}, ".", on_run_begin=lambda name: print(name, flush=True))


def _mask(name):
    return name.replace("rewound", "cut") + ".keras"


def run_all(network: str) -> None:
    """Train every run of a network that is not among the results, those of `comparison.py` too, in the current folder,
    and keep its run.json."""
    results, found = RESULTS / network, records(network)
    results.mkdir(parents=True, exist_ok=True)
    for name in names(network):
        if name not in found:
            train(network, name)
            shutil.copy(pathlib.Path(name, "run.json"), results / f"{name}.json")


# ------------------------------------------------------------------------------------------------- accuracy and FLOPs


def records(network: str) -> dict[str, dict]:
    """All runs of a network that are there, by name: those of `comparison.py`, and those of this file."""
    own = sorted((RESULTS / network).glob("*.json"))
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
    return _measuring(run) if method == "pll" else 0.0


def _exchanges_per_step(run):
    schedule, pruner = (_made(kind, run["config"]["prune"][key]) for kind, key in PARTS)
    total = len(run["epochs"]) * STEPS_PER_EPOCH[run["summary"]["data"]]
    last = int(pruner.end * total)
    return float(np.sum(schedule.due(np.arange(1, last + 1), total))) / total


def _made(kind, section):
    return kind.get(section["name"], **{key: value for key, value in section.items() if key != "name"})


def _measuring(run):
    """PLL's products with the Hessian. On MNIST `pll.py` has counted them, in trainings of 8 epochs at the nearest
    sparsity. Elsewhere a bound: five products and a loss at each check until the epoch that reaches the target."""
    data, target = run["summary"]["data"], run["summary"]["asked_sparsity"]
    if data == "mnist":
        sparsity = min(pll.SPARSITIES, key=lambda s: abs(s - target))
        measured = json.loads(pll.RESULTS.read_text())
        runs = [measured[pll.key("mnist", "pll", sparsity, seed)] for seed in pll.SEEDS]
        return statistics.fmean(run["flops_measuring"] for run in runs) * pll.TASKS["mnist"]["epochs"] / BUDGET
    every = pll_rules.default_every(len(run["epochs"]) * STEPS_PER_EPOCH[data])
    last = next(n for n, epoch in enumerate(run["epochs"]) if epoch["sparsity"] >= target - 1e-3)
    shares = [epoch.get("mean_macs_share", epoch["macs_share"]) for epoch in run["epochs"][: last + 1]]
    return sum(shares) / every * (5 * 2 + 1 / 3) / len(run["epochs"])


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


def ratios(network: str) -> str:
    """How many times fewer FLOPs than the three stages a method needs, and the difference in accuracy, by seed."""
    found = results(network)
    asked = _sparsities(found)
    rows = [
        [LABELS[m], *(_ratio(found.get(PRIOR, {}).get(s), rows.get(s)) for s in asked)]
        for m, rows in found.items()
        if m not in ("dense", PRIOR)
    ]
    return tables.markdown(["", *(f"{100 * s:g} % zeros" for s in asked)], rows)


def _ratio(theirs, ours):
    if not theirs or not ours:
        return ""
    accuracy, times = compared(theirs, ours)
    margin = "" if times.margin is None else f" ± {times.margin:.1f}"
    return f"{accuracy.marked(2)}; {times.mean:.1f}{margin} times"


def compared(theirs: dict, ours: dict) -> tuple[Difference, Difference]:
    """Accuracy of ours minus theirs, and FLOPs of theirs over ours: means over common seeds, with t intervals."""
    accuracy = paired(*({seed: figures[0] for seed, figures in row.items()} for row in (ours, theirs)))
    ratio = {seed: theirs[seed][1] / ours[seed][1] for seed in theirs.keys() & ours.keys()}
    return accuracy, paired(ratio, dict.fromkeys(ratio, 0.0))


def headline(network: str) -> str:
    """For each sparsity the method with the fewest FLOPs that is at least as accurate as the three stages."""
    found = results(network)
    rows = []
    for s in _sparsities(found):
        prior = found.get(PRIOR, {}).get(s, {})
        least = [m for m in front(found, s) if m != PRIOR and prior and means(found[m][s])[0] >= means(prior)[0]]
        if least:
            accuracy, times = compared(prior, found[least[0]][s])
            margin = "" if times.margin is None else f" ± {times.margin:.2f}"
            rows.append([
                f"{100 * s:g} %",
                _cell(prior, False),
                LABELS[least[0]],
                _cell(found[least[0]][s], False),
                accuracy.marked(2),
                f"**{times.mean:.1f}**{margin}",
            ])
    titles = ["zeros", LABELS[PRIOR], "the cheapest that is as accurate", "", "difference", "times fewer FLOPs"]
    return tables.markdown(titles, rows)


def against_windows(network: str) -> str:
    """PLL against AGP with PLL's own FLOPs: between two windows, in proportion; beyond them, the nearest one. The
    windows are those that were trained with the same seed."""
    found = results(network)
    rows = []
    for s in _sparsities(found):
        ours = found.get("pll", {}).get(s, {})
        windows = [found[method].get(s, {}) for method in WINDOWS if method in found]
        points = {seed: [window[seed] for window in windows if seed in window] for seed in ours}
        theirs = {seed: _at(ours[seed][1], row) for seed, row in points.items() if row}
        if theirs:
            difference = paired({seed: ours[seed][0] for seed in theirs}, theirs)
            same = {seed: (accuracy, ours[seed][1]) for seed, accuracy in theirs.items()}
            cells = (_cell({seed: row[seed] for seed in theirs}, False) for row in (ours, same))
            rows.append([f"{100 * s:g} %", *cells, difference.marked(2)])
    return tables.markdown(["zeros", "PLL", "AGP with as many FLOPs", "difference"], rows)


def _at(cost, points):
    """The accuracy that a line through `(accuracy, FLOPs)` has at a cost."""
    accuracies, costs = zip(*sorted(points, key=lambda point: point[1]), strict=True)
    return float(np.interp(cost, costs, accuracies))


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
    parser.add_argument("--networks", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "evidence", help="for the runs")
    parser.add_argument("--tables", action="store_true", help="only write tables and pictures")
    arguments = parser.parse_args()
    for network in () if arguments.tables else arguments.networks:
        folder = arguments.runs.resolve() / network
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)  # so that run.json has no path of this machine
        run_all(network)
    for network in FILES:
        tables.write("docs/evidence.md", f"costs-{network}", costs(network))
        plots.save(picture(network), tables.ROOT / "docs" / f"evidence_{network}.png", overwrite=True)
        tables.write("docs/evidence.md", f"ratios-{network}", ratios(network))
        tables.write("docs/evidence.md", f"headline-{network}", headline(network))
        tables.write("docs/evidence.md", f"windows-{network}", against_windows(network))
