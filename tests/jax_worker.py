"""A process of test_jax_processes.py: `jax_worker.py FOLDER TASK PORT`.

TASK is 0 or 1 for one of two processes, "alone" for a single process.
"""

import json
import pathlib
import signal
import sys
import warnings

import jax
import keras
import numpy as np

import tfsparse
from tfsparse.backend import replicas
from tfsparse.testing import fixtures

FOLDER, TASK, PORT = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
LIMIT = 240  # seconds
FAULT, FAULTY = 6, "1"  # after this step in this process
HALF = fixtures.BATCH // 2


class Record(keras.callbacks.Callback):
    """Records a digest of the masks after every step."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        masks = [replicas.replica_values(mask)[0] for mask in self.model.optimizer.masks]
        self.steps.append(replicas.digest(masks))


class Flip(keras.callbacks.Callback):
    """Changes one entry of a mask in one process, although it is one array for JAX."""

    def on_train_batch_end(self, batch, logs=None):
        optimizer = self.model.optimizer
        if optimizer.steps_done == FAULT and TASK == FAULTY:
            mask = optimizer.masks[1]
            value = replicas.replica_values(mask)[0]
            value.flat[0] = 1 - value.flat[0]
            shards = [jax.device_put(value, device) for device in jax.local_devices()]
            mask._value = jax.make_array_from_single_device_arrays(value.shape, mask.value.sharding, shards)


def data():
    """Return this process's half of every global batch, or the whole batch."""
    x, y = fixtures.small_data()
    if TASK == "alone":
        return x, y
    batches = [a.reshape(-1, 2, HALF, *a.shape[1:])[:, int(TASK)] for a in (x, y)]
    return tuple(b.reshape(-1, *b.shape[2:]) for b in batches)


def train(name, on_divergence, *callbacks):
    """Train, and write what happened to a file."""
    model = fixtures.small_model()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(True))
    record, result = Record(), {"error": None}
    prune = tfsparse.Prune(tfsparse.OneCycle(updates=5), sparsity=0.6, on_divergence=on_divergence)
    batch = fixtures.BATCH if TASK == "alone" else HALF
    with warnings.catch_warnings(record=True) as caught:
        try:
            options = {"batch_size": batch, "epochs": 3, "shuffle": False, "verbose": 0}
            model.fit(*data(), callbacks=[prune, *callbacks, record], **options)
        except RuntimeError as error:
            result["error"] = str(error)
    sync_stats = model.optimizer.sync_stats
    result |= {"steps": record.steps, "num_syncs": sync_stats.num_syncs, "bytes": sync_stats.bytes}
    result["warnings"] = [str(w.message) for w in caught if w.category is UserWarning]
    (FOLDER / f"{name}-{TASK}.json").write_text(json.dumps(result))
    variables = [*model.trainable_variables, *model.optimizer.variables]
    np.savez(FOLDER / f"{name}-{TASK}.npz", *(replicas.replica_values(v)[0] for v in variables))


def propose():
    """Push and pull: each process proposes a mask of its own, and in the end for a step of its own."""
    own, merged = np.eye(3, dtype="float32")[int(TASK)], {}
    for policy in tfsparse.MaskStore.policies:
        store = tfsparse.MaskStore(policy)
        store.push([own], step=1)
        merged[policy] = store.pull(step=1)[0].tolist()
    try:
        store.push([own], step=2 + int(TASK))
    except ValueError as error:
        merged["error"] = str(error)
    merged["bytes"] = store.sync_stats.bytes
    (FOLDER / f"store-{TASK}.json").write_text(json.dumps(merged))


def main():
    signal.alarm(LIMIT)  # ends this process if the test was killed
    if TASK == "alone":
        train("straight", "raise")
        return
    jax.distributed.initialize(f"127.0.0.1:{PORT}", 2, int(TASK))
    devices = [f"cpu:{device.id}" for device in jax.devices()]
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False))
    propose()
    train("straight", "raise")
    train("flipped", "raise", Flip())
    train("repaired", "repair", Flip())


if __name__ == "__main__":
    main()
