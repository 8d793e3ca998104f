"""FLOPs and bytes of a compiled training step by XLA's own count, which no other program on the machine disturbs.

XLA counts the body of a loop once, so a step with an update of the masks counts as one in which the update is due. The
other step is compiled without the loop around the update. For `scale.py`.
"""

import contextlib
import os
from unittest import mock

import numpy as np

SPARSITY, BATCH_SIZE, TOTAL_STEPS = 0.9, 128, 10_000
SHAPES = {"mlp": (784,), "resnet_20": (32, 32, 3)}
OPTIONS = {"mlp": {"widths": (2048, 2048)}, "resnet_20": {}}


def measure(backend: str, name: str) -> dict[str, dict]:
    """`{program: {"flops", "bytes"}}` of the dense step and of sparse ones, with an update of the masks and without."""
    os.environ["KERAS_BACKEND"] = backend
    import tfsparse

    count = {"jax": _count_on_jax, "tensorflow": _count_on_tensorflow}[backend]
    pruners = {scope: tfsparse.Magnitude(scope=scope) for scope in ("layer", "global")} | {"RigL": tfsparse.RigL()}
    result = {"dense": count(*_training(name))}
    for label, pruner in pruners.items():
        with _without_updates():
            result[f"{label}, without an update"] = count(*_training(name, pruner))
        result[f"{label}, with an update"] = count(*_training(name, pruner))
    return result


def _training(name: str, pruner=None):
    """A model with an optimizer, its loss, and a batch."""
    import keras

    import tfsparse
    from tfsparse.experiments.zoo import models

    model = models.build(name, SHAPES[name], 10, **OPTIONS[name])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), loss=loss)
    if pruner is not None:
        tfsparse.sparsify(model, tfsparse.OneCycle(), SPARSITY, pruner, total_steps=TOTAL_STEPS)
    model.optimizer.build(model.trainable_variables)
    return model, loss, np.zeros((BATCH_SIZE, *SHAPES[name]), "float32"), np.zeros(BATCH_SIZE, "int32")


@contextlib.contextmanager
def _without_updates():
    """Leave out of a step that is compiled here what it does if an update is due."""
    from tfsparse.backend import ops

    with mock.patch.object(ops, "when") as when:
        yield
    assert when.called, "the step makes its update without tfsparse.backend.ops.when: say here how to leave it out"


def _count_on_jax(model, loss, x, y) -> dict:
    import jax

    def loss_and_state(trained, others, x, y):
        outputs, others = model.stateless_call(trained, others, x, training=True)
        return loss(y, outputs), others

    def step(trained, others, state, x, y):
        (value, others), gradients = jax.value_and_grad(loss_and_state, has_aux=True)(trained, others, x, y)
        trained, state = model.optimizer.stateless_apply(state, gradients, trained)
        return trained, others, state, value

    variables = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
    values = [[v.value for v in some] for some in variables]
    compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*values, x, y).compile()
    return _counts(compiled.cost_analysis())


def _count_on_tensorflow(model, loss, x, y) -> dict:
    import jax
    import tensorflow as tf
    from jaxlib import _hlo, _jax  # TensorFlow itself does not give the count away

    @tf.function(jit_compile=True)
    def step(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        model.optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
        return value

    written = step.experimental_get_compiler_ir(tf.constant(x), tf.constant(y))(stage="optimized_hlo_serialized")
    program = _hlo.HloModule.from_serialized_hlo_module_proto(written)
    return _counts(_jax.hlo_module_cost_analysis(jax.devices("cpu")[0].client, program))


def _counts(analysis: dict) -> dict:
    return {"flops": analysis["flops"], "bytes": analysis["bytes accessed"]}
