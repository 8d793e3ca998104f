"""Does DST find the sparsity and accuracy of its paper on MNIST, and does steering alpha lead to the sparsity asked?

Trains LeNet-300-100, LeNet-5 and LSTM-a by the recipe of Liu et al. (ICLR 2020), dense and with DST at the paper's
fixed alpha, three seeds; steered to the share of weights that the paper keeps, for a comparison at an equal ratio; and
LeNet-300-100 with other targets, one seed. Then writes the tables of `docs/dst.md`, in which the paper's figures (its
table 1) stand beside ours. Runs that are finished are not run again,
broken-off ones are resumed. On two busy CPU cores an epoch of LeNet-300-100 takes some 5 seconds, of LeNet-5 20 and of
LSTM-a 60, with DST more:

    TFDS_DATA_DIR=... python benchmarks/mnist_dst.py --networks lenet300 lenet5 lstm_a --parts dense dst matched
    TFDS_DATA_DIR=... python benchmarks/mnist_dst.py --parts targets
    python benchmarks/mnist_dst.py --tables                    # only the tables, from benchmarks/results/mnist_dst
"""

import argparse
import json
import pathlib

import tables
import trainings

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "mnist_dst"
NETWORKS = {"lenet300": "LeNet-300-100", "lenet5": "LeNet-5", "lstm_a": "LSTM-a"}
TARGETS = (0.8, 0.9, 0.95, 0.98)
MATCHED = {"lenet300": 0.9752, "lenet5": 0.9836, "lstm_a": 0.9846}  # the sparsities of the paper's table
PARTS = ("dense", "dst", "matched", "targets")
LABELS = {"dense": "dense", "dst": "DST, the paper's alpha", "matched": "DST steered to the paper's ratio, and cut"}
PAPER = {  # per cent: kept, accuracy; mean and sd of 5 runs
    ("lenet300", "dense"): ("100", "98.16 ± 0.06"),
    ("lenet300", "dst"): ("2.48 ± 0.21", "97.69 ± 0.14"),
    ("lenet300", "matched"): ("2.48 ± 0.21", "97.69 ± 0.14"),
    ("lenet5", "dense"): ("100", "99.18 ± 0.05"),
    ("lenet5", "dst"): ("1.64 ± 0.13", "99.11 ± 0.07"),
    ("lenet5", "matched"): ("1.64 ± 0.13", "99.11 ± 0.07"),
    ("lstm_a", "dense"): ("100", "98.64 ± 0.12"),
    ("lstm_a", "dst"): ("1.54 ± 0.04", "98.56 ± 0.06"),
    ("lstm_a", "matched"): ("1.54 ± 0.04", "98.56 ± 0.06"),
}


def train(network: str, part: str, seed: int, runs: pathlib.Path, *sets: str) -> None:
    """One training, and its run.json among the results."""
    name = f"{network}-{part}-seed{seed}"
    trainings.train(f"mnist_{network}_dst", RESULTS / f"{name}.json", runs, name, f"seed={seed}", *sets)


def finished(network: str, part: str) -> list[dict]:
    """The runs that are there, one per seed."""
    return [json.loads(file.read_text()) for file in sorted(RESULTS.glob(f"{network}-{part}-seed*.json"))]


def row(network: str, part: str) -> list[str]:
    """The cells of one network, dense or with DST: at the last epoch, and at the one with the best test accuracy."""
    runs = finished(network, part)
    best = [run["summary"]["best_epoch"] for run in runs]
    moments = [run["epochs"][-1] for run in runs], [run["epochs"][b - 1] for run, b in zip(runs, best, strict=True)]
    cells = [cell for epochs in moments for cell in (kept(epochs), accuracy(epochs))]
    layers = " / ".join(f"{100 * row['kept'] / row['size']:.1f}" for row in runs[0]["report"]["rows"])
    return [NETWORKS[network], LABELS[part], *cells, ", ".join(map(str, best)), *PAPER[network, part], layers]


def kept(epochs: list[dict]) -> str:
    """Per cent of the thresholded weights that live after these epochs; all of them where nothing is pruned."""
    return tables.mean([100 * (1 - epoch["sparsity"]) for epoch in epochs]) if "sparsity" in epochs[0] else "100"


def accuracy(epochs: list[dict]) -> str:
    """On the test images, in per cent."""
    return tables.mean([100 * epoch["val_accuracy"] for epoch in epochs])


def mnist() -> str:
    """Ours beside the paper's."""
    titles = ["network", "", "kept, %", "accuracy, %", "kept at best", "best accuracy", "best epoch of each seed"]
    titles += ["paper: kept", "accuracy", "ours: kept of each kernel, seed 0"]
    return tables.markdown(titles, [row(*case) for case in PAPER if finished(*case)])


def controller() -> str:
    """Where alpha was steered to, and what the cut to the exact sparsity cost."""
    titles = ["zeros asked", "before the cut", "after it", "accuracy before, %", "after it", "first, last alpha"]
    return tables.markdown(titles, [_steered(s, run) for s in TARGETS for run in finished("lenet300", _target(s))])


def _target(sparsity):
    return f"target{sparsity:g}"


def _steered(sparsity, run):
    first, last = run["epochs"][0], run["epochs"][-1]
    zeros = [f"{last[key]:.5f}" for key in ("uncut_sparsity", "sparsity")]
    accuracies = [f"{100 * last[key]:.2f}" for key in ("uncut_accuracy", "val_accuracy")]
    return [f"{sparsity:g}", *zeros, *accuracies, f"{first['alpha']:.2g}, {last['alpha']:.2g}"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "mnist_dst", help="for the runs")
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    arguments = parser.parse_args()
    wanted, folder = [] if arguments.tables else arguments.parts, arguments.runs.resolve()
    for which in arguments.networks:
        for number in arguments.seeds:
            if "dense" in wanted:
                train(which, "dense", number, folder, "dst=null")
            if "dst" in wanted:
                train(which, "dst", number, folder)
            if "matched" in wanted:
                train(which, "matched", number, folder, f"dst.sparsity={MATCHED[which]}")
    for asked in TARGETS if "targets" in wanted else ():
        train("lenet300", _target(asked), 0, folder, f"dst.sparsity={asked}")
    tables.write("docs/dst.md", "mnist", mnist())
    tables.write("docs/dst.md", "controller", controller())
