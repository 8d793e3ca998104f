"""Checks of a pruner on several devices, and as a pure function."""

import functools

import keras
import numpy as np
from keras import ops

from tfsparse.backend import replicas
from tfsparse.optimizers import compiled_model
from tfsparse.optimizers.sparse_optimizer import SparseOptimizer
from tfsparse.pruners import Pruner
from tfsparse.testing.fixtures import SPARSITY, AfterEveryStep, assert_same, fit, small_model, to_arrays
from tfsparse.testing.registry import check, only


def split_cpu() -> None:
    """Split the CPU into two logical devices, which `check_two_replicas_agree` needs.

    Call it before TensorFlow is used, for example in `conftest.py`.
    """
    import tensorflow as tf

    half = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [half, half])


@functools.cache  # a second strategy numbers its collectives like the first, and TensorFlow mixes them up
def two_cpu_strategy():
    """Return a MirroredStrategy over two logical CPUs; the same one for the whole process.

    Returns:
        The `tf.distribute.MirroredStrategy`.

    Raises:
        RuntimeError: If the CPU was not split before TensorFlow was used.
    """
    import tensorflow as tf

    devices = [d.name for d in tf.config.list_logical_devices("CPU")]
    if len(devices) < 2:
        raise RuntimeError(
            "There is one logical CPU and two are needed: call tfsparse.testing.split_cpu() before TensorFlow is used, "
            "for example in conftest.py."
        )
    return tf.distribute.MirroredStrategy(devices[:2])


@check
@only("tensorflow")
def check_two_replicas_agree(pruner: Pruner) -> None:
    """Two replicas have equal masks at every step, and end as one device that is given the same batches."""

    def compare_replicas(model):
        optimizer = compiled_model.sparse_optimizer(model)
        copies = zip(*[replicas.replica_values(m) for m in optimizer.masks], strict=True)
        assert len({replicas.digest(masks) for masks in copies}) == 1, "the replicas' masks differ"

    with two_cpu_strategy().scope():
        mirrored = fit(pruner, callbacks=[AfterEveryStep(compare_replicas)])
    assert_same(mirrored, fit(pruner), "two replicas instead of one device", exactly=False)


@check
@only("jax")
def check_stateless_apply(pruner: Pruner) -> None:
    """`stateless_apply` under `jax.jit` gives what `apply` gives."""
    import jax

    random, results = np.random.default_rng(5), []
    shapes = [v.shape for v in small_model().trainable_variables]
    steps = [[random.normal(size=shape).astype("float32") for shape in shapes] for _ in range(6)]
    for compiled in (False, True):
        model = small_model()
        optimizer = SparseOptimizer(keras.optimizers.SGD(0.1, momentum=0.9), "linear", SPARSITY, pruner, total_steps=6)
        optimizer.build(model.trainable_variables)
        weights, state = [v.value for v in model.trainable_variables], [v.value for v in optimizer.variables]
        step = jax.jit(optimizer.stateless_apply)
        for gradients in steps:
            if compiled:
                weights, state = step(state, [ops.convert_to_tensor(g) for g in gradients], weights)
            else:
                optimizer.apply([ops.convert_to_tensor(g) for g in gradients], model.trainable_variables)
        results.append(weights if compiled else to_arrays(model.trainable_variables))
    for value, expected in zip(*results, strict=True):
        assert np.allclose(value, expected, atol=1e-6), "stateless_apply under jax.jit differs from apply"
