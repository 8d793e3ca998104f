"""What do three ways to remove channels while training cost, and what do they save?

Trains LeNet-5 on MNIST and ResNet-20 on CIFAR-10 (as JPEG, 16x16 pixels) for a few epochs: dense, by activation
density, without filters of small L1 norm, and without channels of low relevance. Each takes channels away after the
first and after the second epoch. Writes the table of `docs/channel_training.md` after every training. Runs that are
finished are not run again, broken-off ones are resumed.

    TFDS_DATA_DIR=... python benchmarks/channel_training.py --networks lenet5 resnet20
    python benchmarks/channel_training.py --tables
"""

import argparse
import json
import pathlib

import tables
import trainings

RESULTS = tables.ROOT / "benchmarks" / "results" / "channel_training"
PAGE = "docs/channel_training.md"
NETWORKS = {"lenet5": "LeNet-5", "resnet20": "ResNet-20"}
CONFIGS = {"lenet5": "mnist_lenet5_activation_density", "resnet20": "cifar10_resnet20_activation_density"}
SHORT = {"lenet5": ("epochs=4",), "resnet20": ("epochs=5", "data.name=cifar10_jpeg", "data.image_size=16")}
REST = "activation_density=null"
METHODS = {
    "dense": (REST,),
    "activation_density": ("activation_density={smallest: 4, prune_epochs: [1, 2], min_kept: 0}",),
    "filter_pruning": (REST, "filter_pruning={sparsity: 0.5, rounds: 2, every: 1}"),
    "filter_pruning_0.75": (REST, "filter_pruning={sparsity: 0.75, rounds: 2, every: 1}"),
    "feature_relevance": (REST, "feature_relevance={sparsity: 0.5, rounds: 2, every: 1, smallest: 4}"),
    "feature_relevance_0.75": (REST, "feature_relevance={sparsity: 0.75, rounds: 2, every: 1, smallest: 4}"),
}


def train(network: str, method: str, seed: int, runs: pathlib.Path) -> None:
    """One training through the command line, and its run.json among the results."""
    name = f"{network}-{method}-seed{seed}"
    overrides = (*SHORT[network], *METHODS[method])
    trainings.train(CONFIGS[network], RESULTS / f"{name}.json", runs, name, f"seed={seed}", *overrides)


def finished(network: str, method: str) -> list[dict]:
    """The runs that are there, one per seed."""
    return [json.loads(file.read_text()) for file in sorted(RESULTS.glob(f"{network}-{method}-seed*.json"))]


def table() -> str:
    """A line per network and method that is there."""
    titles = ["network", "method", "widths", "accuracy, %", "parameters", "MACs", "training complexity", "wall time, s"]
    rows = [_row(n, m, finished(n, m)) for n in NETWORKS for m in METHODS if finished(n, m)]
    return tables.markdown(titles, rows) if rows else "Not measured yet."


def _row(network, method, runs):
    summaries = [run["summary"] for run in runs]
    accuracy = tables.mean([100 * summary["accuracy"] for summary in summaries])
    seconds = _mean(summaries, "seconds")
    dense = [run["summary"] for run in finished(network, "dense")]
    time = f"{seconds:.0f}" + (f" ({seconds / _mean(dense, 'seconds'):.2f})" if dense else "")
    label = "dense" if method == "dense" else f"`{method.partition('_0')[0]}`{_target(runs[0])}"
    return [NETWORKS[network], label, _widths(runs[0]), accuracy, *_sizes(network, summaries), time]


def _target(run):
    section = run["config"]["filter_pruning"] or run["config"]["feature_relevance"]
    return f", sparsity {section['sparsity']}" if section else ""


def _widths(run):
    return "-".join(map(str, run["epochs"][-1]["widths"].values())) if "widths" in run["epochs"][-1] else ""


def _sizes(network, summaries):
    """Parameters, multiply-adds per image and training complexity; the dense ones are in the runs that shrink."""
    if "macs" in summaries[0]:
        sizes = [(_mean(summaries, key), _mean(summaries, f"dense_{key}")) for key in _SIZES]
        complexity = tables.mean([summary["training_complexity"] for summary in summaries])
        return [*(f"{now:,.0f} (1/{before / now:.1f})" for now, before in sizes), complexity]
    others = [run["summary"] for method in METHODS for run in finished(network, method) if "macs" in run["summary"]]
    return [*(f"{others[0][f'dense_{key}']:,}" if others else "" for key in _SIZES), "1"]


_SIZES = ("parameters", "macs")


def _mean(summaries, key):
    return sum(summary[key] for summary in summaries) / len(summaries)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "channel_training", help="for the runs"
    )
    parser.add_argument("--tables", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    for which in arguments.networks if not arguments.tables else ():
        for how in arguments.methods:
            for number in arguments.seeds:
                train(which, how, number, arguments.runs.resolve())
                tables.write(PAGE, "channel_training", table())
    tables.write(PAGE, "channel_training", table())
