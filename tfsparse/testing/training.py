"""Checks of a pruner in training: every step, all execution modes, all ways to resume."""

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
    AfterEveryStep,
    Interruption,
    assert_pruned_are_zero,
    assert_same,
    assert_target,
    fit,
    fit_compiled,
    interrupt,
    num_zeros,
    small_data,
    small_model,
    to_arrays,
)
from tfsparse.testing.registry import check, only


@check
def check_zero_after_every_step(pruner: Pruner) -> None:
    """After every step `weight == weight * mask`, and after training the target is reached exactly."""
    model = fit(pruner, callbacks=[AfterEveryStep(lambda m: assert_pruned_are_zero(m, "after a step"))])
    assert_target(model, pruner)


@check
def check_execution_modes_agree(pruner: Pruner) -> None:
    """Eager, graph, jit and several steps per execution give the same masks and weights."""
    eager = fit(pruner, run_eagerly=True)
    for options in ({"jit_compile": False}, {"jit_compile": True}, {"steps_per_execution": 3, "jit_compile": False}):
        assert_same(fit(pruner, **options), eager, f"{options} instead of eager", exactly=False)


@check
def check_masks_are_traced_once(pruner: Pruner) -> None:
    """The pruner is traced once, not called at every step."""
    calls = []

    class Counting(type(pruner)):
        def masks(self, weights, *others):
            calls.append(len(weights))
            return super().masks(weights, *others)

    model = fit(Counting.from_config(pruner.get_config()))
    num_groups = len(compiled_model.sparse_optimizer(model).mask_state.groups)
    assert 0 < len(calls) <= 2 * num_groups, f"masks was traced {len(calls)} times in {EPOCHS * STEPS} steps"


def _prune_rarely(pruner, **options):
    """Return a callback that updates masks at steps 1, 7, 13 and 16 only, so that a resumed run must keep them."""
    return Prune(OneCycle(updates=3), SPARSITY, pruner, **options)


@check
def check_resume_from_file(pruner: Pruner) -> None:
    """Two epochs, saved to `.keras` and loaded, and two more equal four epochs bit for bit."""
    straight = fit(pruner, epochs=4, prune=_prune_rarely(pruner))
    first = fit(pruner, epochs=2, prune=_prune_rarely(pruner, total_steps=4 * STEPS))
    with tempfile.TemporaryDirectory() as folder:
        first.save(os.path.join(folder, "model.keras"))
        second = keras.models.load_model(os.path.join(folder, "model.keras"))
    fit_compiled(second, [_prune_rarely(pruner)], epochs=4, initial_epoch=2)
    assert_same(second, straight, "resumed from a .keras file")


@check
def check_resume_from_backup(pruner: Pruner) -> None:
    """A run that `BackupAndRestore` resumes after an interruption equals a straight run bit for bit."""
    straight = fit(pruner, epochs=4, prune=_prune_rarely(pruner))
    with tempfile.TemporaryDirectory() as folder:
        try:
            backup = keras.callbacks.BackupAndRestore(folder)
            fit(pruner, epochs=4, prune=_prune_rarely(pruner), callbacks=[backup, interrupt(2)])
        except Interruption:
            backup = keras.callbacks.BackupAndRestore(folder)
            resumed = fit(pruner, epochs=4, prune=_prune_rarely(pruner), callbacks=[backup])
    assert_same(resumed, straight, "resumed from BackupAndRestore")


@check
@only("tensorflow")
def check_resume_from_tf_checkpoint(pruner: Pruner) -> None:
    """`tf.train.Checkpoint` saves and restores the masks and the position in the schedule."""
    import tensorflow as tf

    straight, prune = fit(pruner, epochs=4, prune=_prune_rarely(pruner)), _prune_rarely(pruner, total_steps=4 * STEPS)
    first, second = fit(pruner, epochs=2, prune=prune), fit(pruner, epochs=1, prune=prune)
    with tempfile.TemporaryDirectory() as folder:
        path = tf.train.Checkpoint(model=first, optimizer=first.optimizer).save(os.path.join(folder, "checkpoint"))
        tf.train.Checkpoint(model=second, optimizer=second.optimizer).restore(path).assert_existing_objects_matched()
    fit_compiled(second, [prune], epochs=4, initial_epoch=2)
    assert_same(second, straight, "resumed from tf.train.Checkpoint")


@check
def check_weights_load_into_plain_model(pruner: Pruner) -> None:
    """Weights of the plain model load before pruning, and weights of the pruned model load into the plain model."""
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
    for value, expected in zip(to_arrays(plain.variables), to_arrays(model.variables), strict=True):
        assert np.array_equal(value, expected), "the pruned model's weights do not load into the plain model"


@check
def check_moving_average(pruner: Pruner) -> None:
    """With `use_ema` the averages that replace the weights at the end are sparse too."""
    averaging = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    # linear: the last step prunes weights whose average is not zero
    assert_target(fit(pruner, averaging, prune=Prune("linear", SPARSITY, pruner)), pruner)


@check
def check_mixed_precision(pruner: Pruner) -> None:
    """With `mixed_float16` the loss is scaled, and the target is reached although steps may be skipped."""
    with dtype_policy("mixed_float16"):
        model = fit(pruner)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer), "loss scaling was lost"
    assert_target(model, pruner)


@check
def check_gradient_accumulation(pruner: Pruner) -> None:
    """With gradient accumulation masks change only when the inner optimizer steps, and the target is reached."""
    before = {}

    def compare_with_previous_batch(model):
        optimizer = compiled_model.sparse_optimizer(model)
        masks = to_arrays(optimizer.masks)
        if before and before["steps"] == optimizer.steps_done:
            equal = (np.array_equal(a, b) for a, b in zip(masks, before["masks"], strict=True))
            assert all(equal), "masks changed without a step"
        before.update(steps=optimizer.steps_done, masks=masks)

    inner = keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2)
    model = fit(pruner, inner, callbacks=[AfterEveryStep(compare_with_previous_batch)])
    assert compiled_model.sparse_optimizer(model).steps_done == EPOCHS * STEPS // 2
    assert_target(model, pruner)


@check
def check_exclusion_and_overrides(pruner: Pruner) -> None:
    """An excluded layer stays dense, and a layer with a sparsity of its own gets it."""
    model = small_model()
    head, hidden = model.get_layer("head"), model.get_layer("hidden")
    prune = Prune("one_cycle", SPARSITY, pruner, exclude=[head], sparsities={hidden: 0.25})
    optimizer = compiled_model.sparse_optimizer(fit(pruner, model=model, prune=prune))
    assert np.all(ops.convert_to_numpy(head.kernel) != 0), "the excluded layer was pruned"
    expected = pruner.num_prunable(tuple(hidden.kernel.shape), 0.25)
    assert num_zeros(optimizer.mask(hidden.kernel)) == expected, "the layer's own sparsity was not reached"


@check
def check_export(pruner: Pruner) -> None:
    """The exported model has the zeros of the masks and the same outputs."""
    import tensorflow as tf

    model, (x, _) = fit(pruner), small_data()
    with tempfile.TemporaryDirectory() as folder:
        loaded = tf.saved_model.load(str(export(model, pathlib.Path(folder) / "out")))
        assert np.allclose(loaded.serve(x[:4]), model.predict(x[:4], verbose=0), atol=1e-5), "other outputs"
    kernels = {tuple(v.shape): v.numpy() for v in loaded.variables}
    optimizer = compiled_model.sparse_optimizer(model)
    for variable, mask in zip(optimizer.pruned_variables, optimizer.masks, strict=True):
        assert int(np.sum(kernels[tuple(variable.shape)] == 0)) >= num_zeros(mask), "zeros were lost in the export"
