"""One process of test_multi_worker.py: `worker.py FOLDER CASE ...` trains these cases, as a worker of the cluster in
TF_CONFIG or else alone. Started again after a crash it goes on where it was."""

import dataclasses
import json
import os
import pathlib
import signal
import sys
import warnings
import zlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras

import tfsparse.tfmot
from tfsparse.backend import replicas
from tfsparse.tfmot import kernels

EPOCHS, STEPS, BATCH, SPARSITY = 3, 8, 16, 0.8
LIMIT = 240  # seconds for all
CRASH, FAULT = 13, 10  # after these steps, in the second epoch
FAULTY = 1  # the worker in which a fault is planted


class Case(NamedTuple):
    """One training."""

    scope: str
    fault: str | None = None  # what differs in one worker from a step on: its "mask" or its "weights"
    backup: str | None = None  # where BackupAndRestore stands: "before" or "after" Prune
    crashes: int | None = None  # the worker that does, once


CASES = {
    "layer": Case("layer"),
    "global": Case("global"),
    "flipped": Case("layer", fault="mask"),
    "repaired": Case("layer", fault="weights"),
    "resumed-layer": Case("layer", backup="before", crashes=1),
    "resumed-global": Case("global", backup="after", crashes=0),  # the one that writes the backup
}


def pruning_of(model):
    """What prunes the first wrapped layer."""
    return kernels.wrappers(model)[0].pruning_obj


class Record(tf_keras.callbacks.Callback):
    """Where the model is after every step; digests, so that a bit of difference shows."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        masks = [mask.numpy() for wrapper in kernels.wrappers(self.model) for _, mask, _ in wrapper.pruning_vars]
        weights = b"".join(w.tobytes() for w in self.model.get_weights())
        self.steps.append({
            "epoch": self.epoch,
            "step": pruning_of(self.model).num_steps(),
            "zeros": int(sum(np.sum(m == 0) for m in masks)),
            "masks": replicas.digest(masks),
            "weights": zlib.crc32(weights),
        })


class Crash(tf_keras.callbacks.Callback):
    """Ends this process as a failing machine would, once: not when the marker is there."""

    def __init__(self, marker):
        super().__init__()
        self.marker = marker

    def on_train_batch_end(self, batch, logs=None):
        if pruning_of(self.model).num_steps() == CRASH and not self.marker.exists():
            self.marker.touch()
            os._exit(1)


class Plant(tf_keras.callbacks.Callback):
    """A fault: from one step to the next this process has another entry in a mask, or other weights, from which it will
    compute another mask."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def on_train_batch_end(self, batch, logs=None):
        if pruning_of(self.model).num_steps() == FAULT:
            weight, mask, _ = kernels.wrappers(self.model)[0].pruning_vars[0]
            value = mask.numpy()
            if self.fault == "mask":
                value.flat[0] = 1 - value.flat[0]
                mask.assign(value)
            else:
                weight.assign(value * np.arange(1, 1 + value.size).reshape(value.shape))


def data():
    """The global batches, in the same order in every epoch; each worker takes its share of every batch."""
    random = np.random.default_rng(0)
    x = random.normal(size=(STEPS * BATCH, 12)).astype("float32")
    y = np.argmax(x @ random.normal(size=(12, 5)), axis=-1)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH, drop_remainder=True).with_options(options)


def make_model(scope):
    """A few hundred weights. SGD: Adam divides by gradients near zero, where the order of summation counts."""
    tf_keras.utils.set_random_seed(1)
    layers = [tf_keras.layers.Dense(20, "relu", name="hidden"), tf_keras.layers.Dense(5, name="head")]
    model = tf_keras.Sequential([tf_keras.layers.Input((12,)), *layers])
    model = tfsparse.tfmot.prune_low_magnitude(model, scope=scope)
    model.compile(
        tf_keras.optimizers.SGD(0.1, momentum=0.9), tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


def callbacks(case, worker, folder, prune, record):
    """Those of one worker, in an order that matters."""
    found = [prune]
    if case.backup:
        # one directory for all workers: Keras lets the first write to it, and all read it
        backup = tf_keras.callbacks.BackupAndRestore(str(folder / "backup"))
        found.insert(0 if case.backup == "before" else 1, backup)
    if case.fault and worker == FAULTY:
        found.append(Plant(case.fault))
    found.append(record)
    if case.crashes == worker:
        found.append(Crash(folder / "crashed"))
    return found


def train(case, worker, strategy, folder):
    """Train one case, and leave what `Record` saw and the weights in its folder."""
    with strategy.scope():
        model = make_model(case.scope)
    prune = tfsparse.tfmot.Prune(
        "one_cycle", sparsity=SPARSITY, on_divergence="repair" if case.fault == "weights" else "raise"
    )
    record, end = Record(), {"error": None}
    with warnings.catch_warnings(record=True) as caught:
        try:
            model.fit(data(), epochs=EPOCHS, callbacks=callbacks(case, worker, folder, prune, record), verbose=0)
        except RuntimeError as error:
            end["error"] = str(error)
    end |= dataclasses.asdict(prune.sync_stats) | {
        "warnings": [str(w.message) for w in caught if w.category is UserWarning]
    }
    (folder / f"{worker}-end.json").write_text(json.dumps(end))
    tfsparse.tfmot.strip_pruning(model)  # outside of the strategy's scope, as a user would
    np.savez(folder / f"{worker}.npz", *model.get_weights())
    (folder / f"{worker}.json").write_text(json.dumps(record.steps))


def main():
    folder, names = pathlib.Path(sys.argv[1]), sys.argv[2:]
    signal.alarm(LIMIT)  # no orphan lives on if the test that waits for it is killed
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    strategy, worker = tf.distribute.get_strategy(), 0
    if "TF_CONFIG" in os.environ:
        communication = tf.distribute.experimental.CommunicationImplementation.RING
        options = tf.distribute.experimental.CommunicationOptions(implementation=communication)
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    for name in names:
        (folder / name).mkdir(exist_ok=True)
        if not (folder / name / f"{worker}.json").exists():  # else it was done before a crash
            train(CASES[name], worker, strategy, folder / name)


if __name__ == "__main__":
    main()
