"""What does a trained network lose when it is pruned once, without training?

Prunes LeNet-300-100, trained on MNIST as `dense` in `configs/comparison/mnist_lenet300.yaml`, to several sparsities by
magnitude, Wanda and Taylor, with and without `recover=True`, on 1,024 images of the training set. Writes a table of
`docs/methods.md`. What is there is not measured again. With the training of a dense network it takes a few minutes on
one core:

    TFDS_DATA_DIR=... python benchmarks/one_shot.py
    python benchmarks/one_shot.py --tables          # only the table, from benchmarks/results/one_shot
"""

import argparse
import json
import pathlib

import keras
import machine
import numpy as np
import tables

import tfsparse
from tfsparse.experiments import matrix
from tfsparse.experiments.zoo import data as zoo_data

FILE = tables.ROOT / "configs" / "comparison" / "mnist_lenet300.yaml"
RESULTS = tables.ROOT / "benchmarks" / "results" / "one_shot"
SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9)
NUM_IMAGES = 1024
PRUNERS = {
    'Magnitude(scope="layer")': lambda: tfsparse.Magnitude(scope="layer"),
    "Magnitude()": tfsparse.Magnitude,
    "Taylor()": tfsparse.pruners.Taylor,
    "Wanda()": tfsparse.pruners.Wanda,
}


def trained(seed: int, runs: pathlib.Path) -> pathlib.Path:
    """Train the dense network, unless it is there, and return its file."""
    name = f"dense-seed{seed}"
    matrix.train({name: matrix.load(FILE)[name]}, runs)
    return runs / name / "model.keras"


def measure(seed: int, runs: pathlib.Path) -> None:
    """Test accuracy of all prunings of one network."""
    file = RESULTS / f"lenet300-seed{seed}.json"
    if file.exists():
        return
    path = trained(seed, runs)
    data = zoo_data.load("mnist", batch_size=128, seed=seed)
    batches = [batch for batch, _ in zip(data.train, range(NUM_IMAGES // 128), strict=False)]
    x, y = (np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*batches, strict=True))
    accuracies = {"dense": _accuracy(keras.models.load_model(path), data)}
    for pruner in PRUNERS:
        for recover in (False, True):
            for sparsity in SPARSITIES:
                model = keras.models.load_model(path)
                _prune(model, sparsity, pruner, (x, y), recover)
                accuracies[f"{pruner}, {recover}, {sparsity:g}"] = _accuracy(model, data)
                print(seed, pruner, recover, sparsity, accuracies[f"{pruner}, {recover}, {sparsity:g}"], flush=True)
    machine.write(file, {"seed": seed, "versions": machine.versions("keras", "tensorflow"), "accuracies": accuracies})


def _prune(model, sparsity, name, data, recover):
    pruner = PRUNERS[name]()
    uses_data = recover or pruner.needs_gradients or pruner.needs_calibration
    tfsparse.prune(model, sparsity, pruner, data=data if uses_data else None, recover=recover)


def _accuracy(model, data):
    return model.evaluate(data.validation, verbose=0, return_dict=True)["accuracy"]


def table() -> str:
    """Pruners against sparsities, mean of the seeds that are there."""
    runs = [json.loads(file.read_text())["accuracies"] for file in sorted(RESULTS.glob("lenet300-seed*.json"))]
    if not runs:
        return "Not measured yet."
    rows = [["dense", *[tables.mean([100 * run["dense"] for run in runs])] * len(SPARSITIES)]]
    for pruner in PRUNERS:
        for recover in (False, True):
            keys = [f"{pruner}, {recover}, {sparsity:g}" for sparsity in SPARSITIES]
            label = f"`{pruner}`" + ", `recover=True`" * recover
            rows.append([label, *(tables.mean([100 * run[key] for run in runs]) for key in keys)])
    return tables.markdown(["", *(f"{100 * s:g} % zeros" for s in SPARSITIES)], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "comparison" / "mnist_lenet300")
    parser.add_argument("--tables", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    if not arguments.tables:
        for number in arguments.seeds:
            measure(number, arguments.runs)
    tables.write("docs/methods.md", "one_shot", table())
