"""What does a sparse LeNet-300-100 cost to train, against prior works' three stages and iterative pruning?

Trains `configs/comparison/mnist_cost.yaml`, and what begins from its dense runs: three stages whose fine-tuning has a
learning rate of its own, and iterative magnitude pruning with rewinding. Together with the runs of `comparison.py` they
make the tables and the picture of `docs/evidence.md`. Finished runs are not run again, broken-off ones are resumed:

    TFDS_DATA_DIR=... python benchmarks/evidence.py
    python benchmarks/evidence.py --tables               # only tables and picture, from benchmarks/results
"""

import argparse
import os
import pathlib
import shutil

import tables

import tfsparse
from tfsparse.backend import run_directory
from tfsparse.experiments import config as configs
from tfsparse.experiments import matrix

FILE = tables.ROOT / "configs" / "comparison" / "mnist_cost.yaml"
RESULTS = tables.ROOT / "benchmarks" / "results" / "evidence"
SEEDS = (0, 1, 2)
SPARSITIES = (0.95, 0.98, 0.9)  # in the order in which they are trained
FINE_TUNING = {"fine_tuned": "{name: one_cycle, max: 0.1}", "fine_tuned_low": "0.01"}  # the learning rates
FINE_TUNING_EPOCHS = 4
ROUNDS = (0.6, 0.8, 0.9, 0.95, 0.98)  # the sparsities of iterative pruning, one after another
PRUNER = "{name: magnitude, scope: global}"


def train(name: str, config) -> None:
    """One run into the current folder, unless it is finished, and its run.json among the results."""
    if not (RESULTS / f"{name}.json").exists():
        matrix.train({name: config}, ".", on_run_begin=lambda name: print(name, flush=True))
        RESULTS.mkdir(parents=True, exist_ok=True)
        shutil.copy(pathlib.Path(name, "run.json"), RESULTS / f"{name}.json")


def train_matrix(*methods: str) -> None:
    """The runs of some methods of the file, or of all."""
    for name, config in matrix.load(FILE).items():
        if not methods or name.split("-")[0] in methods:
            train(name, config)


def fine_tune(method: str, sparsity: float, seed: int) -> None:
    """The second and third stage: cut the trained dense network in the first step, and fine-tune."""
    prune = f"{{schedule: {{name: one_shot, start: 0.0}}, pruner: {PRUNER}, sparsity: {sparsity}}}"
    sets = [f"optimizer.learning_rate={FINE_TUNING[method]}", f"prune={prune}"]
    sets += [f"start={{weights: dense-seed{seed}/model.keras}}", f"seed={seed}", f"epochs={FINE_TUNING_EPOCHS}"]
    train(f"{method}-{sparsity:g}-seed{seed}", configs.validate(configs.read(FILE)["base"], sets, source=str(FILE)))


def rewind(seed: int) -> None:
    """Iterative magnitude pruning: train, cut, go back to the first weights; as many rounds as there are sparsities."""
    before = f"dense-seed{seed}"
    for sparsity in ROUNDS:
        name, mask = f"rewound-{sparsity:g}-seed{seed}", f"cut-{sparsity:g}-seed{seed}.keras"
        if not (RESULTS / f"{name}.json").exists():
            model = run_directory.read_model(pathlib.Path(before, "model.keras"), compiled=False)
            tfsparse.prune(model, sparsity, tfsparse.Magnitude(scope="global"))
            model.save(mask)
        sets = [f"start={{mask: {mask}}}", f"seed={seed}"]
        train(name, configs.validate(configs.read(FILE)["base"], sets, source=str(FILE)))
        before = name


def run_all() -> None:
    """Everything that is missing, into the current folder."""
    train_matrix()
    for seed in SEEDS:
        for sparsity in SPARSITIES:
            for method in FINE_TUNING:
                fine_tune(method, sparsity, seed)
        rewind(seed)


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
