"""Do targets of their own, from `tfsparse.sensitivity`, beat one target for all layers?

Measures the sensitivity of dense ResNet-20 networks, and trains each on with `Prune("one_cycle")` to 95 % zeros, which
are spread over the layers in four ways. Writes a table and a picture of `docs/sensitivity.md`. What is there is not
measured again. It takes some half an hour on two cores:

    TFDS_DATA_DIR=... python benchmarks/sensitivity.py
    python benchmarks/sensitivity.py --tables          # only table and picture, from benchmarks/results/sensitivity
"""

import argparse
import json
import time

import resnet20
import tables

import tfsparse
from tfsparse.experiments import plots

RESULTS = tables.ROOT / "benchmarks" / "results" / "sensitivity"
SPARSITY = 0.95
EPOCHS, LEARNING_RATE = 2, 0.05  # of the training with pruning
WAYS = {
    "uniform": 'the same for every layer: `Magnitude(scope="layer")`',
    "targets": "`targets(sparsity=0.95)`",
    "erk": 'ERK: `Magnitude(scope="layer", allocation="erk")`',
    "global": 'one threshold for all layers: `Magnitude(scope="global")`',
}


def measure(seed: int) -> None:
    """The sensitivity of the dense network of a seed."""
    file = RESULTS / f"sensitivity-seed{seed}.json"
    if file.exists():
        return
    start = time.perf_counter()
    result = tfsparse.sensitivity(resnet20.dense(seed), resnet20.images()["held_out"], verbose=False)
    resnet20.keep(file, {"seed": seed, "seconds": time.perf_counter() - start, **result.as_dict()})


def callback(way: str, model, seed: int) -> tfsparse.Prune:
    """Prune to the same number of zeros, spread in one of the ways."""
    if way == "global":
        return tfsparse.Prune("one_cycle", SPARSITY, tfsparse.Magnitude(scope="global"))
    if way == "targets":
        result = saved(seed, model.trainable_variables)
        per_layer = tfsparse.Magnitude(scope="layer")
        return tfsparse.Prune("one_cycle", SPARSITY, per_layer, sparsities=result.targets(sparsity=SPARSITY))
    return tfsparse.Prune("one_cycle", SPARSITY, tfsparse.Magnitude(scope="layer", allocation=way))


def train(way: str, seed: int) -> None:
    """Train the dense network of a seed on, sparse."""
    file = RESULTS / f"{way}-seed{seed}.json"
    if file.exists():
        return
    model = resnet20.dense(seed)
    dense = resnet20.accuracy(model)
    resnet20.compile_(model, LEARNING_RATE, EPOCHS)
    resnet20.fit(model, EPOCHS, seed, [callback(way, model, seed)])
    report = tfsparse.report(model)
    result = {"way": way, "seed": seed, "dense": dense, "accuracy": resnet20.accuracy(model)}
    result |= {"zeros": report.size - report.kept, "sparsities": {row.weight: row.sparsity for row in report.rows}}
    tfsparse.recalibrate(model, resnet20.images()["train"][0], 20)
    result |= {"recalibrated": resnet20.accuracy(model)}
    print(result, flush=True)
    resnet20.keep(file, result)


def saved(seed: int, variables=()) -> tfsparse.Sensitivity:
    """A result that is on disk, of these variables."""
    fields = json.loads((RESULTS / f"sensitivity-seed{seed}.json").read_text())
    of_path = {v.path: v for v in variables}
    fields |= {"variables": tuple(of_path.get(path) for path in fields["weights"])}
    return tfsparse.Sensitivity(**{name: value for name, value in fields.items() if name not in ("seed", "seconds")})


def finished(way: str) -> list[dict]:
    """The trainings that are there."""
    return [json.loads(file.read_text()) for file in sorted(RESULTS.glob(f"{way}-seed*.json"))]


def table() -> str:
    """Ways to spread the zeros: accuracy, with BatchNormalization as trained and measured again, and zeros."""
    rows = []
    for way, label in WAYS.items():
        if runs := finished(way):
            means = [tables.mean([100 * run[key] for run in runs]) for key in ("accuracy", "recalibrated")]
            rows.append([label, *means, ", ".join(sorted({f"{run['zeros']:,}" for run in runs}))])
    return tables.markdown(["95 % zeros", "accuracy", "after `recalibrate`", "zeros"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--tables", action="store_true", help="only write table and picture")
    arguments = parser.parse_args()
    if not arguments.tables:
        for number in arguments.seeds:
            measure(number)
        for name in arguments.ways:
            for number in arguments.seeds:
                train(name, number)
    tables.write("docs/sensitivity.md", "sensitivity", table())
    plots.save(saved(0).plot(), tables.ROOT / "docs" / "sensitivity.png")
