"""Does ToST help sparse networks, and which part of it?

98 % zeros from the first step, chosen by RigL and at random: as it is, with each part of ToST, and with all of them.
LeNet-300-100 on MNIST has the setting of `configs/comparison/mnist_lenet300.yaml`; a small VGG on the digits of
scikit-learn, in which BatchNormalization follows each convolution, that of `configs/comparison/digits_addons.yaml`. For
one seed all trainings begin with the same weights and see the same batches. Writes tables of `docs/methods.md`. What is
there is not run again. One training takes about a minute on one core:

    TFDS_DATA_DIR=... python benchmarks/tost.py
    python benchmarks/tost.py --tables                # only the table, from benchmarks/results/tost
"""

import argparse
import itertools
import json
import pathlib
import time

import keras
import machine
import numpy as np
import tables

import tfsparse
from tfsparse.experiments.zoo import data as zoo_data
from tfsparse.experiments.zoo import models

RESULTS = tables.ROOT / "benchmarks" / "results" / "tost"
SPARSITY = 0.98
SETTINGS = {"lenet_300_100": ("mnist", 10, 128), "vgg_small": ("digits", 20, 32)}  # data, epochs, rows of a batch
PRUNERS = {"rigl": "`RigL`", "random": "`Random`"}
PARTS = {  # parts of ToST, and what the table calls them
    "plain": "without ToST",
    "smooth": "smooth activations",
    "labels": "label smoothing",
    "gradinit": "`gradinit`",
    "ghosts": "ghost skips",
    "all": "all of them",
}
PARTS_OF = {"lenet_300_100": [part for part in PARTS if part != "ghosts"], "vgg_small": list(PARTS)}


def train(network: str, pruner: str, part: str, seed: int) -> dict:
    """One training: accuracy on the test images after every epoch, and of the finished model."""
    keras.utils.set_random_seed(seed)
    name, epochs, batch_size = SETTINGS[network]
    data = zoo_data.load(name, batch_size=batch_size, seed=seed, epochs=epochs)
    model = models.build(network, data.input_shape, data.num_classes)
    if part in ("smooth", "all"):
        model = tfsparse.tost(model)
    if part == "ghosts" or (part == "all" and "ghosts" in PARTS_OF[network]):
        model = tfsparse.ghost_skips(model)
    smoothed = tfsparse.SmoothedCrossentropy(from_logits=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = tfsparse.OneCycleRate(0.1, epochs * data.steps_per_epoch)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    model.compile(optimizer, smoothed if part in ("labels", "all") else loss, metrics=["accuracy"])
    begun, scales = time.perf_counter(), None
    if part in ("gradinit", "all"):
        scales = tfsparse.gradinit(model, _first_batches(data, 5120 // batch_size), seed=seed)
    callbacks = [tfsparse.Prune("constant", SPARSITY, pruner)]
    callbacks += [tfsparse.ToST()] * (part in ("smooth", "ghosts", "all"))
    lengths = {"epochs": epochs, "steps_per_epoch": data.steps_per_epoch, "shuffle": False}
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


def path(network: str, pruner: str, part: str, seed) -> pathlib.Path:
    """The file of one training."""
    return RESULTS / network / f"{pruner}-{part}-seed{seed}.json"


def results(network: str, pruner: str, part: str) -> dict[int, float]:
    """Accuracy in per cent by seed."""
    pattern = path(network, pruner, part, "*")
    files = pattern.parent.glob(pattern.name)
    runs = [json.loads(file.read_text()) for file in files]
    return {run["seed"]: 100 * run["summary"]["accuracy"] for run in runs}


def table(network: str) -> str:
    """Accuracy, and its difference to the training of the same seed without ToST."""
    rows = []
    for pruner, label in PRUNERS.items():
        plain = results(network, pruner, "plain")
        for part in PARTS_OF[network]:
            found = results(network, pruner, part)
            if found:
                gains = [found[seed] - plain[seed] for seed in sorted(found.keys() & plain.keys())]
                gain = tables.mean(gains) if gains and part != "plain" else ""
                rows.append([label, PARTS[part], tables.mean([*found.values()]), gain, str(len(found))])
    titles = ["pruner", "with", "accuracy", "difference, of equal seeds", "seeds"]
    return tables.markdown(titles, rows) if rows else "Not measured yet."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--networks", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--pruners", nargs="+", choices=PRUNERS, default=list(PRUNERS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tables", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    all_wanted = itertools.product(arguments.networks, arguments.seeds, arguments.pruners, arguments.parts)
    for net, number, how, what in [] if arguments.tables else all_wanted:
        file = path(net, how, what, number)
        if what in PARTS_OF[net] and not file.exists():
            done = train(net, how, what, number)
            about = {"network": net, "pruner": how, "part": what, "seed": number, "sparsity": SPARSITY}
            machine.write(file, about | done | {"versions": machine.versions("keras", "tensorflow")})
            print(file.stem, done["summary"], flush=True)
    for net in SETTINGS:
        tables.write("docs/methods.md", f"tost_{net}", table(net))
