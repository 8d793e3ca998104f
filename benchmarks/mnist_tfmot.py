"""How accurate is LeNet-300-100 on MNIST when TFMOT's PolynomialDecay prunes it to 90, 95 and 98 %?

The baseline of the MNIST table. It sees what `configs/mnist_lenet300_one_cycle.yaml` sees: the same batches in the same
order, 10 epochs, the same 1cycle learning rate, SGD with momentum 0.9. One `run.json` per run, and a table at the end.

    python benchmarks/mnist_tfmot.py --out runs/mnist_tfmot --sparsities 0.9 0.95 0.98 --seeds 0 1 2
"""

import argparse
import itertools
import json
import math
import os
import pathlib
import statistics
import time

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # what TFMOT needs tf.keras to mean
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import machine
import numpy as np
import rich.console
import rich.table
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from tfsparse.experiments.zoo import data

EPOCHS, BATCH_SIZE, MAX_RATE, MOMENTUM = 10, 128, 0.1, 0.9
BEGIN, END, FREQUENCY = 0.2, 0.8, 20
PACKAGES = ("tensorflow", "tf_keras", "tensorflow-model-optimization", "keras", "numpy")


class OneCycleRate(tf_keras.optimizers.schedules.LearningRateSchedule):
    """`tfsparse.OneCycleRate` for tf_keras: a cosine max/25 -> max in a quarter of training, then -> max/1e5."""

    def __init__(self, max_rate: float, total_steps: int, warmup: float = 0.25):
        self.max_rate, self.total_steps, self.warmup = max_rate, total_steps, warmup

    def __call__(self, step):
        position = tf.clip_by_value(tf.cast(step, tf.float32) / self.total_steps, 0.0, 1.0)
        rising = position < self.warmup
        within = tf.where(rising, position / self.warmup, (position - self.warmup) / (1 - self.warmup))
        begin = tf.where(rising, self.max_rate / 25, self.max_rate)
        finish = tf.where(rising, self.max_rate, self.max_rate / 1e5)
        angle = within * (math.pi / 2)
        return begin * tf.square(tf.cos(angle)) + finish * tf.square(tf.sin(angle))

    def get_config(self):
        return {"max_rate": self.max_rate, "total_steps": self.total_steps, "warmup": self.warmup}


def lenet_300_100() -> tf_keras.Model:
    """The zoo's `lenet_300_100`, whose initialisers are the defaults of both Keras versions."""
    layers = tf_keras.layers
    dense = [layers.Dense(width, activation="relu", name=f"dense{i}") for i, width in enumerate((300, 100), start=1)]
    return tf_keras.Sequential([layers.Input((28, 28, 1)), layers.Flatten(), *dense, layers.Dense(10, name="logits")])


def schedule(sparsity: float, total_steps: int):
    """TFMOT's polynomial decay from dense to `sparsity` between a fifth and four fifths of training."""
    return tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=sparsity,
        begin_step=int(BEGIN * total_steps),
        end_step=int(END * total_steps),
        frequency=FREQUENCY,
    )


def train(sparsity: float, seed: int) -> dict:
    """Train one model and return its record; sparsity and accuracy are measured on the stripped model."""
    begun = time.perf_counter()
    tf_keras.utils.set_random_seed(seed)
    batches = data.load("mnist", batch_size=BATCH_SIZE, seed=seed, epochs=EPOCHS)
    total_steps = EPOCHS * batches.steps_per_epoch
    plain = lenet_300_100()
    model = tfmot.sparsity.keras.prune_low_magnitude(plain, schedule(sparsity, total_steps))
    _compile(model, tf_keras.optimizers.SGD(OneCycleRate(MAX_RATE, total_steps), momentum=MOMENTUM))
    history = model.fit(
        batches.train,
        epochs=EPOCHS,
        steps_per_epoch=batches.steps_per_epoch,
        validation_data=batches.validation,
        shuffle=False,
        callbacks=[tfmot.sparsity.keras.UpdatePruningStep()],
        verbose=0,
    )
    stripped = tfmot.sparsity.keras.strip_pruning(model)
    _compile(stripped, "sgd")
    loss, accuracy = stripped.evaluate(batches.validation, verbose=0)
    return {
        "name": f"mnist-lenet300-tfmot-{sparsity:g}-seed{seed}",
        "config": _config(total_steps),
        "seed": seed,
        "method": "tfmot_polynomial",
        "sparsity_asked": sparsity,
        "sparsity_actual": _zeros(stripped),
        "accuracy": float(accuracy),
        "loss": float(loss),
        "history": {key: [float(v) for v in values] for key, values in history.history.items()},
        "seconds": round(time.perf_counter() - begun, 3),
        "versions": machine.versions(*PACKAGES),
        "machine": machine.describe(),
    }


def _compile(model, optimizer) -> None:
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss=loss, metrics=["accuracy"])


def _zeros(model) -> float:
    kernels = [w.numpy() for w in model.trainable_weights if w.shape.rank == 2]
    return float(sum(np.sum(k == 0) for k in kernels) / sum(k.size for k in kernels))


def _config(total_steps: int) -> dict:
    return {
        "data": "mnist",
        "model": "lenet_300_100",
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "optimizer": {"name": "sgd", "momentum": MOMENTUM, "learning_rate": {"name": "one_cycle", "max": MAX_RATE}},
        "prune": {"schedule": "PolynomialDecay", "begin": BEGIN, "end": END, "power": 3, "frequency": FREQUENCY},
        "total_steps": total_steps,
    }


def summary(runs: list[dict]) -> rich.table.Table:
    """Mean and standard deviation per sparsity."""
    table = rich.table.Table(title="LeNet-300-100, MNIST, TFMOT PolynomialDecay")
    for column in ("asked", "zeros in the kernels", "accuracy, %", "sd", "runs"):
        table.add_column(column, justify="right")
    for sparsity, group in itertools.groupby(sorted(runs, key=_asked), key=_asked):
        group = list(group)
        accuracies = [100 * run["accuracy"] for run in group]
        spread = f"{statistics.stdev(accuracies):.2f}" if len(group) > 1 else "-"
        actual = statistics.mean(run["sparsity_actual"] for run in group)
        table.add_row(f"{sparsity:g}", f"{actual:.4f}", f"{statistics.mean(accuracies):.2f}", spread, str(len(group)))
    return table


def _asked(run: dict) -> float:
    return run["sparsity_asked"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/mnist_tfmot"))
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.90, 0.95, 0.98])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    runs = []
    for sparsity, seed in itertools.product(options.sparsities, options.seeds):
        path = options.out / f"{sparsity:g}-seed{seed}" / "run.json"
        if not path.exists():
            machine.write(path, train(sparsity, seed))
        runs.append(json.loads(path.read_text(encoding="utf-8")))
        run = runs[-1]
        print(f"{run['name']}: accuracy {run['accuracy']:.4f}, zeros {run['sparsity_actual']:.4f}", flush=True)
    rich.console.Console().print(summary(runs))


if __name__ == "__main__":
    main()
