"""What do several tickets of one sparse training gain over one network of the same training time?

Trains LeNet-300-100 on MNIST for 20 epochs with one seed after the other: dense, with RigL, and with FreeTickets (8
epochs of exploration, three tickets of 4 epochs each). Measures accuracy and negative log-likelihood on the test set,
disagreement and bytes, and makes the ensemble of the RigL networks of all seeds. Writes the tables of
`docs/free_tickets.md`. A training that is there is not repeated. One takes a few minutes on one core:

    TFDS_DATA_DIR=... python benchmarks/free_tickets.py --seed 0
    python benchmarks/free_tickets.py --tables         # only the tables, from benchmarks/results/free_tickets
"""

import argparse
import json
import pathlib
import tempfile
import time

import keras
import machine
import tables

import tfsparse
from tfsparse.experiments.zoo import data as zoo_data
from tfsparse.experiments.zoo import models

RESULTS = tables.ROOT / "benchmarks" / "results" / "free_tickets"
EPOCHS, EXPLORATION, BATCH, RATE, SPARSITY = 20, 0.4, 128, 0.1, 0.9
STEPS_PER_EXECUTION = 36  # the same steps with fewer calls of Python; an epoch has 468
METHODS = ("free_tickets", "rigl", "dense")


def train(method: str, seed: int, runs: pathlib.Path) -> None:
    """One training and its results, unless they are there."""
    file, run = RESULTS / f"{method}-seed{seed}.json", runs / f"{method}-seed{seed}"
    if file.exists():
        return
    keras.utils.set_random_seed(seed)
    data = zoo_data.load("mnist", batch_size=BATCH, seed=seed, epochs=EPOCHS)
    model = models.build("lenet_300_100", data.input_shape, data.num_classes)
    total = EPOCHS * data.steps_per_epoch
    rate = tfsparse.StepRate(RATE, total, boundaries=(0.5, 0.75))
    if method == "free_tickets":
        rate = tfsparse.FreeTicketsRate(RATE, total, exploration=EXPLORATION)
    callbacks = {
        "dense": [],
        "rigl": [tfsparse.Prune("constant", SPARSITY, "rigl")],
        "free_tickets": [tfsparse.FreeTickets(run / "tickets", SPARSITY, exploration=EXPLORATION)],
    }[method]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    model.compile(optimizer, loss, metrics=["accuracy"], steps_per_execution=STEPS_PER_EXECUTION)
    begin = time.perf_counter()
    history = model.fit(
        data.train,
        epochs=EPOCHS,
        steps_per_epoch=data.steps_per_epoch,
        shuffle=False,
        validation_data=data.validation,
        verbose=2,
        callbacks=callbacks,
    ).history
    seconds = time.perf_counter() - begin
    run.mkdir(parents=True, exist_ok=True)
    model.save(run / "model.keras")
    found = _ensemble(run / "tickets", data) if method == "free_tickets" else _network(model, data)
    about = {"seed": seed, "versions": machine.versions("keras", "tensorflow"), "machine": machine.describe()}
    machine.write(file, about | {"summary": {"seconds": seconds}, "history": history} | found)


def dst_ensemble(seeds: list[int], runs: pathlib.Path) -> None:
    """The ensemble of the RigL networks of several seeds, if all of them are there."""
    paths = [runs / f"rigl-seed{seed}" / "model.keras" for seed in seeds]
    if len(paths) > 1 and all(path.exists() for path in paths):
        found = _ensemble(paths, zoo_data.load("mnist", batch_size=BATCH))
        machine.write(RESULTS / "dst_ensemble.json", {"seeds": seeds} | found)


def _network(model, data):
    measured = model.evaluate(data.validation, verbose=0, return_dict=True)
    return {"accuracy": measured["accuracy"], "nll": measured["loss"], "bytes": _bytes(model)}


def _ensemble(tickets, data):
    model = tfsparse.ensemble(tickets)
    quality = tfsparse.evaluate_ensemble(model, data.validation)
    found = {"quality": quality.as_dict(), "bytes": _bytes(model), "unpacked_bytes": _bytes(model, dense=True)}
    members = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return found | {"ticket_bytes": [_bytes(member) for member in members]}


def _bytes(model, **options):
    """Bytes of all files of the SavedModel."""
    with tempfile.TemporaryDirectory() as folder:
        path = tfsparse.export(model, pathlib.Path(folder) / "model", **options)
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _results(name):
    return [json.loads(file.read_text()) for file in sorted(RESULTS.glob(f"{name}.json"))]


def quality_table() -> str:
    """Accuracy, likelihood and disagreement of networks and ensembles, mean of the seeds that are there."""
    titles = ["", "trainings", "accuracy in %", "negative log-likelihood", "disagreement in %"]
    dense, rigl, tickets, several = map(_results, ("dense-seed*", "rigl-seed*", "free_tickets-seed*", "dst_ensemble"))
    if not tickets:
        return "Not measured yet."
    rows = [_quality_row(name, "1", runs) for name, runs in (("dense", dense), ("`RigL`", rigl)) if runs]
    for number in range(len(tickets[0]["quality"]["tickets"])):
        rows.append(_quality_row(f"ticket {number + 1}", "", [run["quality"]["tickets"][number] for run in tickets]))
    rows.append(_ensemble_row("**FreeTickets**, the ensemble", "1", tickets))
    if several:
        rows.append(_ensemble_row("ensemble of `RigL` networks", str(len(several[0]["seeds"])), several))
    return tables.markdown(titles, rows)


def _quality_row(name, trainings, runs, disagreement=""):
    nll = f"{sum(run['nll'] for run in runs) / len(runs):.4f}"
    return [name, trainings, tables.mean([100 * run["accuracy"] for run in runs]), nll, disagreement]


def _ensemble_row(name, trainings, runs):
    disagreement = tables.mean([100 * run["quality"]["disagreement"] for run in runs])
    return _quality_row(name, trainings, [run["quality"]["ensemble"] for run in runs], disagreement)


def bytes_table() -> str:
    """Bytes of the SavedModels of the first seed."""
    dense, tickets = _results("dense-seed0"), _results("free_tickets-seed0")
    if not (dense and tickets):
        return "Not measured yet."
    weights = 4 * models.build("lenet_300_100", (28, 28, 1), 10).count_params()
    sizes = {
        "the float32 weights of one dense network, without a file": weights,
        "SavedModel of the dense network": dense[0]["bytes"],
        "SavedModel of one ticket, the largest": max(tickets[0]["ticket_bytes"]),
        "SavedModel of the ensemble": tickets[0]["bytes"],
        "SavedModel of the ensemble, `dense=True`": tickets[0]["unpacked_bytes"],
    }
    rows = [[name, f"{size:,}", f"{size / weights:.2f}"] for name, size in sizes.items()]
    return tables.markdown(["", "bytes", "of the dense weights"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "free_tickets")
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    arguments = parser.parse_args()
    if not arguments.tables:
        for number in arguments.seed:
            for which in METHODS:
                train(which, number, arguments.runs)
        dst_ensemble(arguments.seed, arguments.runs)
    tables.write("docs/free_tickets.md", "free_tickets", quality_table())
    tables.write("docs/free_tickets.md", "free_tickets_bytes", bytes_table())
