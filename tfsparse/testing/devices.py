"""The pruner on several devices, and as a pure function."""

import functools

import keras
import numpy as np
from keras import ops

from tfsparse.backend import replicas
from tfsparse.optimizers import compiled_model
from tfsparse.optimizers.sparse_optimizer import SparseOptimizer
from tfsparse.pruners import Pruner
from tfsparse.testing.fixtures import SPARSITY, EveryStep, assert_same, fit, small_model, values
from tfsparse.testing.registry import check, only


def split_cpu() -> None:
    """Split the CPU into two logical devices, as `check_two_replicas_agree` needs; call it before TensorFlow is used."""
    import tensorflow as tf

    half = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [half, half])


@functools.cache  # a second strategy would count its collectives from the same number and mix them up with the first's
def two_cpu_strategy():
    """One strategy over two logical CPUs for the whole process."""
    import tensorflow as tf

    devices = [d.name for d in tf.config.list_logical_devices("CPU")]
    assert len(devices) >= 2, "call tfsparse.testing.split_cpu() before TensorFlow is used, as in conftest.py"
    return tf.distribute.MirroredStrategy(devices[:2])


@check
@only("tensorflow")
def check_two_replicas_agree(pruner: Pruner) -> None:
    """Two replicas agree with each other at every step, and with one device given the same batches."""
    strategy = two_cpu_strategy()

    def look(model):
        optimizer = compiled_model.sparse_optimizer(model)
        copies = zip(*[replicas.replica_values(m) for m in optimizer.masks], strict=True)
        digests = {replicas.digest(masks) for masks in copies}
        assert len(digests) == 1, "the replicas' masks differ"

    with strategy.scope():
        mirrored = fit(pruner, callbacks=[EveryStep(look)])
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
        results.append(weights if compiled else values(model.trainable_variables))
    for mine, theirs in zip(*results, strict=True):
        assert np.allclose(mine, theirs, atol=1e-6), "stateless_apply under jax.jit differs from apply"
