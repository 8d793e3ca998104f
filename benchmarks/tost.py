"""Does ToST help sparse networks, and which part of it?

LeNet-300-100 on MNIST with 98 % zeros from the first step, chosen by RigL and at random: as it is, with each part of
ToST, and with all of them. The setting is that of `configs/comparison/mnist_lenet300.yaml`; for one seed all trainings
begin with the same weights and see the same batches. Writes a table of `docs/methods.md`. What is there is not run
again. One training takes about a minute on one core:

    TFDS_DATA_DIR=... python benchmarks/tost.py
    python benchmarks/tost.py --tables                # only the table, from benchmarks/results/tost
"""

import argparse
import json
import time

import keras
import machine
import numpy as np
import tables

import tfsparse
from tfsparse.experiments.zoo import data as zoo_data
from tfsparse.experiments.zoo import models

RESULTS = tables.ROOT / "benchmarks" / "results" / "tost"
SPARSITY, EPOCHS, BATCH = 0.98, 10, 128
PRUNERS = {"rigl": "`RigL`", "random": "`Random`"}
PARTS = {  # parts of ToST, and what the table calls them
    "plain": "without ToST",
    "smooth": "smooth activations",
    "labels": "label smoothing",
    "gradinit": "`gradinit`",
    "all": "all three",
}


def train(pruner: str, part: str, seed: int) -> dict:
    """One training: accuracy on the test images after every epoch, and of the finished model."""
    keras.utils.set_random_seed(seed)
    data = zoo_data.load("mnist", batch_size=BATCH, seed=seed, epochs=EPOCHS)
    model = models.build("lenet_300_100", data.input_shape, data.num_classes)
    if part in ("smooth", "all"):
        model = tfsparse.tost(model)
    smoothed = tfsparse.SmoothedCrossentropy(from_logits=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = tfsparse.OneCycleRate(0.1, EPOCHS * data.steps_per_epoch)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    model.compile(optimizer, smoothed if part in ("labels", "all") else loss, metrics=["accuracy"])
    begun, scales = time.perf_counter(), None
    if part in ("gradinit", "all"):
        scales = tfsparse.gradinit(model, _first_batches(data, 40), seed=seed)
    callbacks = [tfsparse.Prune("constant", SPARSITY, pruner)]
    callbacks += [tfsparse.ToST()] * (part in ("smooth", "all"))
    lengths = {"epochs": EPOCHS, "steps_per_epoch": data.steps_per_epoch, "shuffle": False}
    options = {"validation_data": data.validation, "verbose": 0, "callbacks": callbacks}
    history = model.fit(data.train, **lengths, **options).history
    seconds, model = time.perf_counter() - begun, tfsparse.finalize(model)
    model.compile(loss=loss, metrics=["accuracy"])
    measured = model.evaluate(data.validation, verbose=0, return_dict=True)
    summary = {"accuracy": measured["accuracy"], "sparsity": tfsparse.report(model).sparsity, "seconds": seconds}
    return {"summary": summary, "history": history["val_accuracy"], "scales": scales}


def _first_batches(data, count):
    pairs = zip(*(batch for batch, _ in zip(data.train, range(count), strict=False)), strict=True)
    return tuple(np.concatenate([np.asarray(part) for part in parts]) for parts in pairs)


def results(pruner: str, part: str) -> dict[int, float]:
    """Accuracy in per cent by seed."""
    files = RESULTS.glob(f"{pruner}-{part}-seed*.json")
    runs = [json.loads(file.read_text()) for file in files]
    return {run["seed"]: 100 * run["summary"]["accuracy"] for run in runs}


def table() -> str:
    """Accuracy, and its difference to the training of the same seed without ToST."""
    rows = []
    for pruner, label in PRUNERS.items():
        plain = results(pruner, "plain")
        for part, name in PARTS.items():
            found = results(pruner, part)
            if found:
                gains = [found[seed] - plain[seed] for seed in sorted(found.keys() & plain.keys())]
                gain = tables.mean(gains) if gains and part != "plain" else ""
                rows.append([label, name, tables.mean([*found.values()]), gain, str(len(found))])
    titles = ["pruner", "with", "accuracy", "difference, of equal seeds", "seeds"]
    return tables.markdown(titles, rows) if rows else "Not measured yet."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pruners", nargs="+", choices=PRUNERS, default=list(PRUNERS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tables", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    wanted = [(p, part, s) for s in arguments.seeds for p in arguments.pruners for part in arguments.parts]
    for which in [] if arguments.tables else wanted:
        file = RESULTS / "{}-{}-seed{}.json".format(*which)
        if not file.exists():
            done = train(*which)
            about = {"pruner": which[0], "part": which[1], "seed": which[2], "sparsity": SPARSITY, "epochs": EPOCHS}
            machine.write(file, about | done | {"versions": machine.versions("keras", "tensorflow")})
            print(*which, done["summary"], flush=True)
    tables.write("docs/methods.md", "tost", table())
