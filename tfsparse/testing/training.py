"""The pruner in training: every step, every engine, every way to resume."""

import os
import pathlib
import tempfile

import keras
import numpy as np
from keras import ops

from tfsparse.backend.precision import dtype_policy
from tfsparse.callbacks import Prune
from tfsparse.export.saved_model import export
from tfsparse.optimizers import compiled_model
from tfsparse.pruners import Pruner
from tfsparse.schedules import OneCycle
from tfsparse.testing.fixtures import (
    EPOCHS,
    SPARSITY,
    STEPS,
    EveryStep,
    Interruption,
    assert_kept,
    assert_same,
    assert_target,
    fit,
    fit_on,
    interrupt,
    small_data,
    small_model,
    values,
    zeros,
)
from tfsparse.testing.registry import check, only


@check
def check_zero_after_every_step(pruner: Pruner) -> None:
    """`weight == weight * mask` after every `apply`, and the exact target at the end."""
    model = fit(pruner, callbacks=[EveryStep(lambda m: assert_kept(m, "after a step"))])
    assert_target(model, pruner)


@check
def check_execution_modes_agree(pruner: Pruner) -> None:
    """Eager, graph, jit and several steps per execution give the same masks and weights."""
    eager = fit(pruner, run_eagerly=True)
    for options in ({"jit_compile": False}, {"jit_compile": True}, {"steps_per_execution": 3, "jit_compile": False}):
        assert_same(fit(pruner, **options), eager, f"{options} instead of eager", exactly=False)


@check
def check_masks_are_traced_once(pruner: Pruner) -> None:
    """Ten steps are traced once: nothing of the pruner is Python per step."""
    traces = []

    class Counting(type(pruner)):
        def masks(self, weights, *others):
            traces.append(len(weights))
            return super().masks(weights, *others)

    model = fit(Counting.from_config(pruner.get_config()))
    groups = len(compiled_model.sparse_optimizer(model).mask_state.groups)
    assert 0 < len(traces) <= 2 * groups, f"masks was traced {len(traces)} times in {EPOCHS * STEPS} steps"


def _rare(pruner, **options):
    """Masks computed at steps 1, 7, 13 and 16 only: between them a resumed run must have kept them."""
    return Prune(OneCycle(updates=3), SPARSITY, pruner, **options)


@check
def check_resume_from_file(pruner: Pruner) -> None:
    """Two epochs, save to `.keras`, load, two more: bit for bit four epochs."""
    straight = fit(pruner, epochs=4, prune=_rare(pruner))
    first = fit(pruner, epochs=2, prune=_rare(pruner, total_steps=4 * STEPS))
    with tempfile.TemporaryDirectory() as folder:
        first.save(os.path.join(folder, "model.keras"))
        second = keras.models.load_model(os.path.join(folder, "model.keras"))
    fit_on(second, [_rare(pruner)], epochs=4, initial_epoch=2)
    assert_same(second, straight, "resumed from a .keras file")


@check
def check_resume_from_backup(pruner: Pruner) -> None:
    """A run killed between epochs goes on from `BackupAndRestore` as if nothing had happened."""
    straight = fit(pruner, epochs=4, prune=_rare(pruner))
    with tempfile.TemporaryDirectory() as folder:
        backup = [keras.callbacks.BackupAndRestore(folder)]
        try:
            fit(pruner, epochs=4, prune=_rare(pruner), callbacks=[*backup, interrupt(2)])
        except Interruption:
            resumed = fit(pruner, epochs=4, prune=_rare(pruner), callbacks=[keras.callbacks.BackupAndRestore(folder)])
    assert_same(resumed, straight, "resumed from BackupAndRestore")


@check
@only("tensorflow")
def check_resume_from_tf_checkpoint(pruner: Pruner) -> None:
    """`tf.train.Checkpoint` saves and restores masks and position."""
    import tensorflow as tf

    straight, part = fit(pruner, epochs=4, prune=_rare(pruner)), _rare(pruner, total_steps=4 * STEPS)
    first, second = fit(pruner, epochs=2, prune=part), fit(pruner, epochs=1, prune=part)
    with tempfile.TemporaryDirectory() as folder:
        path = tf.train.Checkpoint(model=first, optimizer=first.optimizer).save(os.path.join(folder, "checkpoint"))
        tf.train.Checkpoint(model=second, optimizer=second.optimizer).restore(path).assert_existing_objects_matched()
    fit_on(second, [part], epochs=4, initial_epoch=2)
    assert_same(second, straight, "resumed from tf.train.Checkpoint")


@check
def check_weights_load_into_plain_model(pruner: Pruner) -> None:
    """Weights of the plain model load before pruning, and the pruned model's load into the plain one."""
    with tempfile.TemporaryDirectory() as folder:
        plain = small_model()
        plain.save_weights(os.path.join(folder, "plain.weights.h5"))
        model = small_model()
        model.load_weights(os.path.join(folder, "plain.weights.h5"))
        names = [v.path for v in model.variables]
        model = fit(pruner, model=model)
        assert names == [v.path for v in model.variables], "pruning renamed the model's variables"
        model.save_weights(os.path.join(folder, "sparse.weights.h5"))
        plain.load_weights(os.path.join(folder, "sparse.weights.h5"))
    for value, expected in zip(values(plain.variables), values(model.variables), strict=True):
        assert np.array_equal(value, expected), "the pruned model's weights do not load into the plain model"


@check
def check_moving_average(pruner: Pruner) -> None:
    """With EMA the averages that overwrite the weights at the end are sparse too."""
    averaging = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    # linear: the last step prunes weights whose average is not zero yet
    assert_target(fit(pruner, averaging, prune=Prune("linear", SPARSITY, pruner)), pruner)


@check
def check_mixed_precision(pruner: Pruner) -> None:
    """`mixed_float16`: loss scaling outside, exact masks inside, although scaled steps may be skipped."""
    with dtype_policy("mixed_float16"):
        model = fit(pruner)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer), "loss scaling was lost"
    assert_target(model, pruner)


@check
def check_gradient_accumulation(pruner: Pruner) -> None:
    """Masks change only when the inner optimizer steps, and the target is reached all the same."""
    before = {}

    def look(model):
        optimizer = compiled_model.sparse_optimizer(model)
        now = values(optimizer.masks)
        if before and before["steps"] == optimizer.steps_done:
            assert all(np.array_equal(a, b) for a, b in zip(now, before["masks"], strict=True)), "pruned without a step"
        before.update(steps=optimizer.steps_done, masks=now)

    inner = keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2)
    model = fit(pruner, inner, callbacks=[EveryStep(look)])
    assert compiled_model.sparse_optimizer(model).steps_done == EPOCHS * STEPS // 2
    assert_target(model, pruner)


@check
def check_exclusion_and_overrides(pruner: Pruner) -> None:
    """An excluded layer stays dense, a layer with a sparsity of its own gets it, the others the common one."""
    model = small_model()
    head, hidden = model.get_layer("head"), model.get_layer("hidden")
    prune = Prune("one_cycle", SPARSITY, pruner, exclude=[head], sparsities={hidden: 0.25})
    optimizer = compiled_model.sparse_optimizer(fit(pruner, model=model, prune=prune))
    assert np.all(ops.convert_to_numpy(head.kernel) != 0), "the excluded layer was pruned"
    wanted = pruner.num_prunable(tuple(hidden.kernel.shape), 0.25)
    assert zeros(optimizer.mask(hidden.kernel)) == wanted, "set_sparsity was not obeyed"


@check
def check_export(pruner: Pruner) -> None:
    """The exported model has the zeros and gives the same answers."""
    import tensorflow as tf

    model, (x, _) = fit(pruner), small_data()
    with tempfile.TemporaryDirectory() as folder:
        loaded = tf.saved_model.load(str(export(model, pathlib.Path(folder) / "out")))
        assert np.allclose(loaded.serve(x[:4]), model.predict(x[:4], verbose=0), atol=1e-5), "other outputs"
    kernels = {tuple(v.shape): v.numpy() for v in loaded.variables}
    for variable, mask in zip(
        compiled_model.sparse_optimizer(model).pruned_variables, compiled_model.sparse_optimizer(model).masks, strict=True
    ):
        assert int(np.sum(kernels[tuple(variable.shape)] == 0)) >= zeros(mask), "zeros were lost in the export"
