"""Does GSM prune LeNets on MNIST without loss, and are its masks better lottery tickets than magnitude's?

Per seed five trainings from the configs: the base; GSM from there, cut at its end; the base's first weights trained
again with GSM's mask, and with the mask of the base's own largest weights. Then writes the tables of `docs/gsm.md`, in
which the paper's figures stand beside ours (Ding et al. 2019: table 1, and table 4 for the tickets). Runs that are
finished are not run again, broken-off ones are resumed. LeNet-300-100 takes some 15 minutes per seed on one CPU core,
LeNet-5 45:

    TFDS_DATA_DIR=... python benchmarks/mnist_gsm.py --network lenet300 --seeds 0 1 2
    TFDS_DATA_DIR=... python benchmarks/mnist_gsm.py --network lenet5 --seeds 0
    python benchmarks/mnist_gsm.py --tables                    # only the tables, from benchmarks/results/mnist_gsm
"""

import argparse
import json
import pathlib

import tables
import trainings

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "mnist_gsm"
COMPRESSION = {"lenet300": 60, "lenet5": 125}
PAPER = {  # per cent
    "lenet300": {"base": 98.19, "gsm": 98.18, "ticket": 98.22, "magnitude": 97.39},
    "lenet5": {"base": 99.21, "gsm": 99.22, "ticket": 99.04, "magnitude": 97.60},
}
ROWS = {
    "base": "base, dense",
    "before": "GSM, before the cut",
    "gsm": "GSM, after the cut",
    "ticket": "ticket: the first weights with GSM's mask",
    "magnitude": "ticket: the first weights with the base's magnitude mask",
}


def train(network: str, part: str, config: str, folder: pathlib.Path, seed: int, *sets: str) -> None:
    """One training, and its run.json among the results."""
    result = RESULTS / f"{network}-{part}-seed{seed}.json"
    trainings.train(f"mnist_{network}_{config}", result, folder, part, f"seed={seed}", *sets)


def cut(folder: pathlib.Path, compression: int) -> None:
    """The base with only its largest weights, as a file."""
    import keras

    import tfsparse

    model = keras.saving.load_model(folder / "base" / "model.keras", compile=False)
    tfsparse.prune(model, 1 - 1 / compression, tfsparse.Magnitude(scope="global"))
    model.save(folder / "magnitude.keras")


def run_all(network: str, seed: int, runs: pathlib.Path) -> None:
    """All trainings of one seed."""
    folder = runs.resolve() / f"{network}-seed{seed}"
    train(network, "base", "gsm_base", folder, seed)
    train(network, "gsm", "gsm", folder, seed, "start.weights=base/model.keras")
    train(network, "ticket", "ticket", folder, seed, "start.mask=gsm/model.keras")
    if not (RESULTS / f"{network}-magnitude-seed{seed}.json").exists():
        cut(folder, COMPRESSION[network])
        train(network, "magnitude", "ticket", folder, seed, "start.mask=magnitude.keras")


def finished(network: str, row: str) -> list[dict]:
    """The runs of a row, one per seed that is there."""
    part = "gsm" if row == "before" else row
    return [json.loads(file.read_text()) for file in sorted(RESULTS.glob(f"{network}-{part}-seed*.json"))]


def kept(run: dict) -> str:
    """Weights that are not zero in each kernel."""
    return " / ".join(f"{row['kept']:,}" for row in run["report"]["rows"])


def table(network: str) -> str:
    """Mean, sample standard deviation and every seed, beside the paper."""
    lines = ["| | mean ± sd | seeds 0, 1, ... | paper | kept of each kernel, seed 0 |", "|---|---|---|---|---|"]
    for row, label in ROWS.items():
        runs = finished(network, row)
        if not runs:
            continue
        values = [100 * r["summary"]["accuracy_before_cut" if row == "before" else "accuracy"] for r in runs]
        cells = [tables.mean(values), ", ".join(f"{v:.2f}" for v in values)]
        cells += ["" if row == "before" else f"{PAPER[network][row]:.2f}"]
        cells += ["" if row in ("base", "before") else kept(runs[0])]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_tables() -> None:
    """Put the tables between their markers in docs/gsm.md."""
    for network in COMPRESSION:
        tables.write("docs/gsm.md", network, table(network))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=COMPRESSION, default="lenet300")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "mnist_gsm", help="for the runs")
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    arguments = parser.parse_args()
    if not arguments.tables:
        for number in arguments.seeds:
            run_all(arguments.network, number, arguments.runs)
    write_tables()
