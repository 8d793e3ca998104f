"""Does GSM prune LeNets on MNIST without loss, and are its masks better lottery tickets than magnitude's?

Per seed four trainings from the configs: the base; GSM from there, cut at its end; the base's first weights trained
again with GSM's mask, and with the mask of the base's own largest weights. `--long` adds the tickets of LeNet-300-100
at the paper's 200 epochs, and a base of that length for magnitude's mask. Then writes the tables of `docs/gsm.md`, in
which the paper's figures stand beside ours (Ding et al. 2019: table 1, and table 4 for the tickets). Results that are
there are not trained again, broken-off runs are resumed. LeNet-300-100 takes some 10 minutes per seed on one CPU core,
with `--long` 30, and LeNet-5 takes 20 to 60:

    TFDS_DATA_DIR=... python benchmarks/mnist_gsm.py --network lenet300 --seeds 0 1 2 --long
    TFDS_DATA_DIR=... python benchmarks/mnist_gsm.py --network lenet5 --seeds 0 1 2
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
    "lenet300": {"base": 98.19, "gsm": 98.18, "ticket": 98.22, "magnitude": 97.39},  # the same for long ones
    "lenet5": {"base": 99.21, "gsm": 99.22, "ticket": 99.04, "magnitude": 97.60},
}
ROWS = {
    "base": "base, dense",
    "before": "GSM, before the cut",
    "gsm": "GSM, after the cut",
    "ticket": "ticket: the first weights with GSM's mask",
    "magnitude": "ticket: the first weights with the base's magnitude mask",
    "long_base": "200 epochs: base, dense",
    "long_ticket": "200 epochs: ticket with GSM's mask",
    "long_magnitude": "200 epochs: ticket with the magnitude mask of a base of 200 epochs",
}
LONG = {"lenet300": ("epochs=200", "steps_per_execution=39")}  # the same steps with fewer calls of Python
TRAININGS = {  # the config, the part whose network it begins from, and as what
    "base": ("gsm_base", None, None),
    "gsm": ("gsm", "base", "start.weights"),
    "ticket": ("ticket", "gsm", "start.mask"),
    "magnitude": ("ticket", "base_cut", "start.mask"),
    "long_base": ("gsm_base", None, None),
    "long_ticket": ("ticket", "gsm", "start.mask"),
    "long_magnitude": ("ticket", "long_base_cut", "start.mask"),
}


def train(network: str, part: str, folder: pathlib.Path, seed: int) -> None:
    """Train a part and what it begins from, if their models are not there, and keep every run.json."""
    config, before, key = TRAININGS[part]
    if before:
        need(network, before, folder, seed)
    sets = [f"seed={seed}", *(LONG[network] if part.startswith("long") else ())]
    sets += [f"{key}={before}/model.keras"] if before else []
    result(network, part, seed).unlink(missing_ok=True)
    trainings.train(f"mnist_{network}_{config}", result(network, part, seed), folder, part, *sets)


def need(network: str, name: str, folder: pathlib.Path, seed: int) -> None:
    """The model of a part, or with the ending `_cut` the same with only its largest weights."""
    part = name.removesuffix("_cut")
    if not (folder / part / "savedmodel").exists():
        train(network, part, folder, seed)
    if part != name and not (folder / name).exists():
        cut(folder / part, folder / name, COMPRESSION[network])


def cut(source: pathlib.Path, target: pathlib.Path, compression: int) -> None:
    """The model of a run with only its largest weights."""
    import keras

    import tfsparse

    model = keras.saving.load_model(source / "model.keras", compile=False)
    tfsparse.prune(model, 1 - 1 / compression, tfsparse.Magnitude(scope="global"))
    target.mkdir()
    model.save(target / "model.keras")


def result(network: str, part: str, seed: int) -> pathlib.Path:
    """Where the record of a training is."""
    return RESULTS / f"{network}-{part}-seed{seed}.json"


def run_all(network: str, seed: int, runs: pathlib.Path, is_long: bool) -> None:
    """All trainings of one seed whose results are not there."""
    for part in TRAININGS:
        if (is_long or not part.startswith("long")) and not result(network, part, seed).exists():
            train(network, part, runs.resolve() / f"{network}-seed{seed}", seed)


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
        cells += ["" if row == "before" else f"{PAPER[network][row.removeprefix('long_')]:.2f}"]
        cells += ["" if row in ("base", "before", "long_base") else kept(runs[0])]
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
    parser.add_argument("--long", action="store_true", help="LeNet-300-100 at the paper's 200 epochs, too")
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "mnist_gsm", help="for the runs")
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    arguments = parser.parse_args()
    if arguments.long and arguments.network not in LONG:
        parser.error(f"--long --network {arguments.network}: expected --network {' or '.join(LONG)}")
    if not arguments.tables:
        for number in arguments.seeds:
            run_all(arguments.network, number, arguments.runs, arguments.long)
    write_tables()
