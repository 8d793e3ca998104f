"""What does a trained network lose when it is pruned once, without training?

Prunes three trained networks to several sparsities and to the pattern 2:4, by magnitude, Wanda and Taylor, with and
without `recover=True`, on images of the training set:

- LeNet-300-100 on MNIST, trained as `dense` in `configs/comparison/mnist_lenet300.yaml`; 1,024 images.
- ResNet-20 on CIFAR-10 as JPEG with 16x16 pixels, trained as `dense` in `configs/comparison/cifar10_resnet20.yaml`; 256
  images, and 20 batches for `recalibrate`. Its first layer stays dense.
- A transformer of two blocks on the digits of scikit-learn, whose rows are its tokens; 1,024 images.

Writes tables of `docs/methods.md`. What is there is not measured again. Beside the training of ResNet-20, which takes
ten minutes on one core, it takes some minutes:

    TFDS_DATA_DIR=... python benchmarks/one_shot.py
    python benchmarks/one_shot.py --tables          # only the tables, from benchmarks/results/one_shot
"""

import argparse
import json
import pathlib

import keras
import keras_hub
import machine
import numpy as np
import tables
from keras import layers

import tfsparse
from tfsparse.experiments import matrix
from tfsparse.experiments.zoo import data as zoo_data

RESULTS = tables.ROOT / "benchmarks" / "results" / "one_shot"
LEVELS = ("0.5", "0.6", "0.7", "0.8", "0.9", "2:4")
PRUNERS = {
    'Magnitude(scope="layer")': lambda *args: tfsparse.Magnitude(*args, scope="layer"),
    "Magnitude()": tfsparse.Magnitude,
    "Taylor()": tfsparse.pruners.Taylor,
    "Wanda()": tfsparse.pruners.Wanda,
}
NUM_IMAGES = {"lenet300": 1024, "resnet20": 256, "transformer": 1024}
SEEDS = {"lenet300": (0, 1, 2), "resnet20": (0,), "transformer": (0, 1, 2)}
WITH_STATISTICS = ("", "recalibrate", "recover", "both")  # of BatchNormalization
MODES = {"lenet300": ("", "recover"), "resnet20": WITH_STATISTICS, "transformer": ("", "recover")}
LABELS = {"": "", "recover": ", `recover=True`", "recalibrate": ", `recalibrate`", "both": ", both"}
FILES = {"lenet300": "mnist_lenet300", "resnet20": "cifar10_resnet20"}


def trained(network: str, seed: int, runs: pathlib.Path) -> tuple[pathlib.Path, zoo_data.Data]:
    """Train the dense network, unless it is there, and return its file and its data."""
    if network == "transformer":
        return _transformer(seed, runs / "transformer" / f"seed{seed}.keras")
    file, name = FILES[network], f"dense-seed{seed}"
    config = matrix.load(tables.CONFIGS / f"{file}.yaml")[name]
    matrix.train({name: config}, runs / file)
    options = {"image_size": config.data.image_size, "augment": config.data.augment}  # as in training
    data = zoo_data.load(config.data.name, batch_size=128, seed=seed, **options)
    return runs / file / name / "model.keras", data


def _transformer(seed, path):
    keras.utils.set_random_seed(seed)
    data = zoo_data.load("digits", batch_size=32, seed=seed, epochs=30)
    if not path.exists():
        inputs = keras.Input((8, 8, 1))
        x = layers.Dense(32)(layers.Reshape((8, 8))(inputs))
        x = x + keras_hub.layers.PositionEmbedding(8)(x)
        for _ in range(2):
            y = layers.LayerNormalization()(x)
            x = x + layers.MultiHeadAttention(num_heads=4, key_dim=8)(y, y)
            y = layers.LayerNormalization()(x)
            x = x + layers.Dense(32)(layers.Dense(64, activation="gelu")(y))
        outputs = layers.Dense(10)(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x)))
        model = keras.Model(inputs, outputs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
        model.fit(data.train, epochs=30, steps_per_epoch=data.steps_per_epoch, shuffle=False, verbose=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
    return path, data


def measure(network: str, seed: int, runs: pathlib.Path) -> None:
    """Test accuracy of all prunings of one network."""
    file = RESULTS / f"{network}-seed{seed}.json"
    if file.exists():
        return
    path, data = trained(network, seed, runs)
    x, y = _images(data, NUM_IMAGES[network])
    accuracies = {"dense": _accuracy(keras.models.load_model(path), data)}
    for name in PRUNERS:
        for level in LEVELS:
            for mode in MODES[network]:
                model = keras.models.load_model(path)
                _prune(model, level, name, (x, y), recover=mode in ("recover", "both"))
                if mode in ("recalibrate", "both"):
                    tfsparse.recalibrate(model, data.train, batches=20)
                accuracies[f"{name}, {mode}, {level}"] = _accuracy(model, data)
                print(network, seed, name, mode, level, accuracies[f"{name}, {mode}, {level}"], flush=True)
    machine.write(file, {"seed": seed, "versions": machine.versions("keras", "tensorflow"), "accuracies": accuracies})


def _images(data, number):
    x, y = zip(*_batches(data, number), strict=True)
    return np.concatenate([*map(np.asarray, x)])[:number], np.concatenate([*map(np.asarray, y)])[:number]


def _batches(data, number):
    count = 0
    for batch in data.train:
        yield batch
        count += len(batch[0])
        if count >= number:
            return


def _prune(model, level, name, data, recover):
    pruner = PRUNERS[name](level) if ":" in level else PRUNERS[name]()
    uses_data = recover or pruner.needs_gradients or pruner.needs_calibration
    first = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)][:1]
    options = {"data": data if uses_data else None, "recover": recover, "exclude": first}
    tfsparse.prune(model, 0.5 if ":" in level else float(level), pruner, **options)


def _accuracy(model, data):
    return model.evaluate(data.validation, verbose=0, return_dict=True)["accuracy"]


def table(network: str) -> str:
    """Pruners against sparsities, mean of the seeds that are there."""
    runs = [json.loads(file.read_text())["accuracies"] for file in sorted(RESULTS.glob(f"{network}-seed*.json"))]
    if not runs:
        return "Not measured yet."
    rows = [["dense", *[tables.mean([100 * run["dense"] for run in runs])] * len(LEVELS)]]
    for name in PRUNERS:
        for mode in MODES[network]:
            keys = [f"{name}, {mode}, {level}" for level in LEVELS]
            cells = [tables.mean([100 * run[key] for run in runs]) for key in keys]
            rows.append([f"`{name}`{LABELS[mode]}", *cells])
    titles = [level if ":" in level else f"{100 * float(level):g} % zeros" for level in LEVELS]
    return tables.markdown(["", *titles], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "comparison")
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    arguments = parser.parse_args()
    for which in [] if arguments.tables else arguments.networks:
        for number in SEEDS[which]:
            measure(which, number, arguments.runs)
    for which in SEEDS:
        tables.write("docs/methods.md", f"one_shot_{which}", table(which))
