"""How do the methods compare on ResNet-20, with one equal budget for all of them?

Trains the configs `cifar10_resnet20_<method>.yaml` to 90 and 95 % zeros and writes the table of `docs/dst.md`. The
budget that fits a CPU: 10 epochs on the JPEG-compressed CIFAR-10, resized to 16x16 pixels (some 6 minutes per run on
two cores). On a GPU, through the JAX backend too, `--full` trains the configs as they are. Runs that are finished are
not run again, broken-off ones are resumed.

    TFDS_DATA_DIR=... python benchmarks/cifar.py --methods dense one_cycle agp
    python benchmarks/cifar.py --tables
"""

import argparse
import json
import pathlib

import tables
import trainings

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "cifar"
METHODS = {
    "dense": "dense",
    "one_cycle": "One-Cycle, global magnitude",
    "agp": "AGP, global magnitude",
    "rigl": "RigL, ERK",
    "feather": "Feather, global",
    "dst": "DST with a target",
}
SPARSITIES = (0.9, 0.95)
SMALL = ("epochs=10", "data.name=cifar10_jpeg", "data.image_size=16")


def train(method: str, sparsity: float | None, seed: int, runs: pathlib.Path, sets: tuple[str, ...]) -> None:
    """One training through the command line, and its run.json among the results."""
    part = "-".join([method, *([f"{sparsity:g}"] if sparsity else []), f"seed{seed}"])
    section = "dst" if method == "dst" else "prune"
    wanted = [f"seed={seed}", *sets, *([f"{section}.sparsity={sparsity}"] if sparsity else [])]
    trainings.train(f"cifar10_resnet20_{method}", RESULTS / f"{part}.json", runs, part, *wanted)


def cell(method: str, sparsity: float | None) -> str:
    """Accuracy of the last epoch, in per cent, of every seed that is there; before a final cut in brackets."""
    part = "-".join([method, *([f"{sparsity:g}"] if sparsity else [])])
    runs = [json.loads(file.read_text())["summary"] for file in sorted(RESULTS.glob(f"{part}-seed*.json"))]
    values = ", ".join(f"{100 * r['accuracy']:.2f}" for r in runs)
    before = ", ".join(f"{100 * r['accuracy_before_cut']:.2f}" for r in runs if "accuracy_before_cut" in r)
    return f"{values} ({before})" if before else values


def table() -> str:
    """Methods against sparsities."""
    dense = cell("dense", None)
    rows = [[METHODS["dense"], f"{dense} (no zeros)", *[""] * (len(SPARSITIES) - 1)]] if dense else []
    rows += [[label, *(cell(m, s) for s in SPARSITIES)] for m, label in METHODS.items() if m != "dense"]
    return tables.markdown(["", *(f"{100 * s:g} % zeros" for s in SPARSITIES)], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--full", action="store_true", help="the configs' own budget instead of the small one")
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "cifar", help="folder for the runs")
    parser.add_argument("--tables", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    if not arguments.tables:
        for number in arguments.seeds:
            for name in arguments.methods:
                for wanted in [None] if name == "dense" else SPARSITIES:
                    train(name, wanted, number, arguments.runs.resolve(), () if arguments.full else SMALL)
    tables.write("docs/dst.md", "cifar", table())
