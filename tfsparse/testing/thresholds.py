"""The battery for trainable thresholds: what `check_pruner` asks of pruners, asked of DST."""

import os
import pathlib
import tempfile
from collections.abc import Callable

import keras
import numpy as np

from tfsparse.backend import replicas
from tfsparse.backend.precision import dtype_policy
from tfsparse.export.saved_model import export
from tfsparse.masks import topk as mask_lib
from tfsparse.methods.dst import DST, dst, finalize
from tfsparse.optimizers import masked_layer
from tfsparse.reporting.report import report
from tfsparse.testing.devices import two_cpu_strategy
from tfsparse.testing.fixtures import (
    SPARSITY,
    AfterEveryStep,
    Interruption,
    assert_same,
    fit_compiled,
    interrupt,
    num_zeros,
    small_data,
    small_model,
    to_arrays,
)
from tfsparse.testing.registry import Battery, only

_EPOCHS = 6
_battery = Battery()
check = _battery.check


def threshold_checks() -> list[Callable[[str], None]]:
    """Return the checks of trainable thresholds that apply to this backend: functions of a kind of threshold."""
    return _battery.checks()


def check_thresholds(threshold: str = "vector") -> None:
    """Run every check of trainable thresholds that applies to this backend.

    Args:
        threshold: Kind of threshold: "vector", "scalar" or "matrix". Default: "vector".

    Raises:
        AssertionError: If a promise is broken. The message says which.

    Examples:
        >>> check_thresholds("matrix")
    """
    _battery.run(threshold)


def fit(threshold, sparsity=SPARSITY, callbacks=(), epochs=_EPOCHS, optimizer=None, model=None, **compile_options):
    """Train the small model with thresholds to a target, or with a fixed alpha where the target is None."""
    if model is None:
        model = dst(small_model(), 0.02, threshold)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss, **compile_options)
    return fit_compiled(model, [DST(sparsity), *callbacks], epochs)


def _on_target(model, when):
    masks = _masks(model)
    asked, found = mask_lib.num_pruned(SPARSITY, sum(m.size for m in masks)), sum(map(num_zeros, masks))
    assert found == asked, f"{when}: asked {asked} zeros, got {found}"
    assert all(m.any() for m in masks), f"{when}: a layer was emptied"


def _masks(model):
    return to_arrays(mask for _, mask in masked_layer.layer_masks(model))


@check
def check_target(threshold: str) -> None:
    """Exactly the zeros asked for, all kernels together; the report counts the same."""
    model = fit(threshold)
    _on_target(model, "after training")
    found = sum(map(num_zeros, _masks(model))) / sum(m.size for m in _masks(model))
    counted = report(model)
    assert abs(counted.sparsity - found) < 1e-9, "the report counts something else"
    assert counted.parameters == small_model().count_params(), "the report counts thresholds too"


@check
def check_thresholds_on_engines(threshold: str) -> None:
    """Eager, graph, jit and several steps per execution give the same thresholds and weights."""
    eager = fit(threshold, None, run_eagerly=True)
    for options in ({"jit_compile": False}, {"jit_compile": True}, {"steps_per_execution": 2, "jit_compile": False}):
        assert_same(fit(threshold, None, **options), eager, f"{options} instead of eager", exactly=False)


@check
def check_reset(threshold: str) -> None:
    """A penalty that is much too strong never leaves a layer at less than its floor after a step."""

    def look(model):
        assert all(mask.mean() > 0.01 for mask in _masks(model)), "a layer stands at or below its floor after a step"

    model = dst(small_model(), 10.0, threshold)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit(threshold, None, [AfterEveryStep(look)], model=model)


@check
def check_thresholds_resume_from_file(threshold: str) -> None:
    """Saved to `.keras` after half of the epochs, loaded, trained on: bit for bit as if nothing had happened."""
    with tempfile.TemporaryDirectory() as folder:
        save = keras.callbacks.ModelCheckpoint(os.path.join(folder, "model.{epoch}.keras"))
        straight = fit(threshold, callbacks=[save])
        model = keras.models.load_model(os.path.join(folder, f"model.{_EPOCHS // 2}.keras"))
    fit_compiled(model, [DST(SPARSITY)], _EPOCHS, initial_epoch=_EPOCHS // 2)
    assert_same(model, straight, "resumed from a .keras file")


@check
def check_thresholds_resume_from_backup(threshold: str) -> None:
    """A run killed between epochs goes on from `BackupAndRestore` as if nothing had happened."""
    straight = fit(threshold)
    with tempfile.TemporaryDirectory() as folder:
        try:
            fit(threshold, callbacks=[keras.callbacks.BackupAndRestore(folder), interrupt(_EPOCHS // 2)])
        except Interruption:
            resumed = fit(threshold, callbacks=[keras.callbacks.BackupAndRestore(folder)])
    assert_same(resumed, straight, "resumed from BackupAndRestore")


@check
def check_thresholds_in_mixed_precision(threshold: str) -> None:
    """`mixed_float16`: thresholds, masks and target at full precision."""
    with dtype_policy("mixed_float16"):
        model = fit(threshold)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer), "loss scaling was lost"
    assert {t.dtype for layer in masked_layer.masked_layers(model) for t in layer.thresholds} == {"float32"}
    _on_target(model, "in mixed precision")


@check
def check_thresholds_with_accumulation(threshold: str) -> None:
    """With gradient accumulation, where thresholds move in every other batch only, the target is reached."""
    inner = keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2)
    _on_target(fit(threshold, optimizer=inner), "with gradient accumulation")


@check
@only("tensorflow")
def check_thresholds_mirrored(threshold: str) -> None:
    """Two replicas hold equal masks after every step, and end as one device that is given the same batches."""
    def look(model):
        for layer in masked_layer.masked_layers(model):
            for variable in (*layer.kernels, *layer.thresholds, layer.alpha):
                first, second = replicas.replica_values(variable)
                assert np.array_equal(first, second), f"{variable.path} differs between the replicas"

    with two_cpu_strategy().scope():
        mirrored = fit(threshold, callbacks=[AfterEveryStep(look)])
    assert_same(mirrored, fit(threshold), "two replicas instead of one device", exactly=False)


@check
def check_finalized(threshold: str) -> None:
    """The plain model has the masked weights, the original's names, and gives the same answers; so does its export."""
    import tensorflow as tf

    model, (x, _) = fit(threshold), small_data()
    plain = finalize(model)
    answers = model.predict(x[:4], verbose=0)
    names = [[v.path.split("/")[-2:] for v in m.variables] for m in (plain, small_model())]
    assert names[0] == names[1], "other variables"
    assert np.allclose(plain.predict(x[:4], verbose=0), answers, atol=1e-6), "other answers"
    for kernel, mask in zip([v for v in to_arrays(plain.variables) if v.ndim > 1], _masks(model), strict=True):
        assert np.array_equal(kernel != 0, mask != 0), "zeros were lost"
    with tempfile.TemporaryDirectory() as folder:
        loaded = tf.saved_model.load(str(export(model, pathlib.Path(folder) / "out")))
        assert np.allclose(loaded.serve(x[:4]), answers, atol=1e-5), "other answers of the export"
