"""What is gained when BatchNormalization is measured again after a cut?

Cuts ResNet-20 once, without further training, to 50, 80 and 90 % zeros, and halves its multiply-adds by dropping
channels. Writes the test accuracy with and without `tfsparse.recalibrate`, a table of `docs/sensitivity.md`. What is
there is not measured again. With the training of the dense networks it takes some 15 minutes on two cores:

    TFDS_DATA_DIR=... python benchmarks/recalibration.py
    python benchmarks/recalibration.py --tables          # only the table, from benchmarks/results/recalibration
"""

import argparse
import json

import resnet20
import tables

import tfsparse

RESULTS = tables.ROOT / "benchmarks" / "results" / "recalibration"
BATCHES = 20
SPARSITIES = (0.5, 0.8, 0.9)
CUTS = {
    "dense": ("no cut", lambda model: model),
    **{
        f"{scope}-{sparsity:g}": (
            f'`prune(model, {sparsity:g}, Magnitude(scope="{scope}"))`',
            lambda model, scope=scope, sparsity=sparsity: pruned(model, sparsity, scope),
        )
        for scope in ("global", "layer")
        for sparsity in SPARSITIES
    },
    "slim-0.5": ("`slim(model, flops=0.5)`", lambda model: tfsparse.slim(model, flops=0.5)),
}


def pruned(model, sparsity: float, scope: str):
    """The model itself, after one cut."""
    tfsparse.prune(model, sparsity, tfsparse.Magnitude(scope=scope))
    return model


def measure(cut: str, seed: int) -> None:
    """Test accuracy after a cut, and after the statistics were measured again."""
    file = RESULTS / f"{cut}-seed{seed}.json"
    if file.exists():
        return
    model = CUTS[cut][1](resnet20.dense(seed))
    without = resnet20.accuracy(model)
    tfsparse.recalibrate(model, resnet20.images()["train"][0], BATCHES)
    result = {"cut": cut, "seed": seed, "without": without, "with": resnet20.accuracy(model)}
    print(result, flush=True)
    resnet20.keep(file, result)


def table() -> str:
    """Cuts against with and without, mean of the seeds that are there."""
    rows = []
    for cut, (label, _) in CUTS.items():
        runs = [json.loads(file.read_text()) for file in sorted(RESULTS.glob(f"{cut}-seed*.json"))]
        if runs:
            rows.append([label, *(tables.mean([100 * run[key] for run in runs]) for key in ("without", "with"))])
    return tables.markdown(["", "as cut", "after `recalibrate`"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tables", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    if not arguments.tables:
        for number in arguments.seeds:
            for name in CUTS:
                measure(name, number)
    tables.write("docs/sensitivity.md", "recalibration", table())
