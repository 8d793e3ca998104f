"""The battery for layers with trainable thresholds: each check trains a small model with DST."""

import os
import pathlib
import tempfile
from collections.abc import Callable

import keras
import numpy as np

from tfsparse.backend import replicas
from tfsparse.backend.precision import dtype_policy
from tfsparse.export.saved_model import export
from tfsparse.masks import topk
from tfsparse.methods.dst import DST, dst
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

__all__ = ["check_thresholds", "threshold_checks"]

_EPOCHS = 6
_battery = Battery()
check = _battery.check


def threshold_checks() -> list[Callable[[str], None]]:
    """Return the checks of trainable thresholds that apply to the Keras backend of this process.

    Returns:
        Functions of a kind of threshold: "vector", "scalar" or "matrix".

    Examples:
        >>> @pytest.mark.parametrize("check", threshold_checks(), ids=lambda check: check.__name__)
        ... def test_thresholds(check):
        ...     check("vector")
    """
    return _battery.checks()


def check_thresholds(threshold: str = "vector") -> None:
    """Run all checks of trainable thresholds that apply to the Keras backend of this process.

    Args:
        threshold: Kind of threshold: "vector", "scalar" or "matrix". Default: "vector".

    Raises:
        AssertionError: If a promise is broken. The message says which.

    Examples:
        >>> check_thresholds("matrix")
    """
    _battery.run(threshold)


def _model(threshold, alpha=0.02, optimizer=None, **compile_options):
    model = dst(small_model(), alpha, threshold)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss, **compile_options)
    return model


def _fit(threshold, sparsity=SPARSITY, callbacks=(), **options):
    """Train the small model to a target, or with a fixed alpha if the target is None."""
    return fit_compiled(_model(threshold, **options), [DST(sparsity), *callbacks], _EPOCHS)


def _masks(model):
    return to_arrays(mask for _, mask in masked_layer.layer_masks(model))


def _assert_target(model, when):
    masks = _masks(model)
    expected, found = topk.num_pruned(SPARSITY, sum(m.size for m in masks)), sum(map(num_zeros, masks))
    assert found == expected, f"{when}: expected {expected} zeros, got {found}"
    assert all(m.any() for m in masks), f"{when}: a layer has only zeros"


@check
def check_target(threshold: str) -> None:
    """Check that all kernels together have exactly the target's zeros, and that the report counts the same."""
    model = _fit(threshold)
    _assert_target(model, "after training")
    sparsity = sum(map(num_zeros, _masks(model))) / sum(m.size for m in _masks(model))
    reported = report(model)
    assert abs(reported.sparsity - sparsity) < 1e-9, "the report has another sparsity"
    assert reported.parameters == small_model().count_params(), "the report counts thresholds too"


@check
def check_execution_modes_agree(threshold: str) -> None:
    """Check that eager, graph, jit and several steps per execution give the same thresholds and weights."""
    eager = _fit(threshold, None, run_eagerly=True)
    for options in ({"jit_compile": False}, {"jit_compile": True}, {"steps_per_execution": 2, "jit_compile": False}):
        assert_same(_fit(threshold, None, **options), eager, f"{options} instead of eager", exactly=False)


@check
def check_reset(threshold: str) -> None:
    """Check that with a much too large alpha no layer keeps less than its floor after a step."""

    def look(model):
        assert all(mask.mean() > 0.01 for mask in _masks(model)), "a layer is at or below its floor after a step"

    _fit(threshold, None, [AfterEveryStep(look)], alpha=10.0, optimizer=keras.optimizers.SGD(0.1))


@check
def check_resume_from_file(threshold: str) -> None:
    """Check that a training resumed from a `.keras` file ends with the bits of a straight one."""
    with tempfile.TemporaryDirectory() as folder:
        save = keras.callbacks.ModelCheckpoint(os.path.join(folder, "model.{epoch}.keras"))
        straight = _fit(threshold, callbacks=[save])
        model = keras.models.load_model(os.path.join(folder, f"model.{_EPOCHS // 2}.keras"))
    fit_compiled(model, [DST(SPARSITY)], _EPOCHS, initial_epoch=_EPOCHS // 2)
    assert_same(model, straight, "resumed from a .keras file")


@check
def check_resume_from_backup(threshold: str) -> None:
    """Check that a training resumed by `BackupAndRestore` ends with the bits of a straight one."""
    straight = _fit(threshold)
    with tempfile.TemporaryDirectory() as folder:
        try:
            _fit(threshold, callbacks=[keras.callbacks.BackupAndRestore(folder), interrupt(_EPOCHS // 2)])
        except Interruption:
            resumed = _fit(threshold, callbacks=[keras.callbacks.BackupAndRestore(folder)])
    assert_same(resumed, straight, "resumed from BackupAndRestore")


@check
def check_mixed_precision(threshold: str) -> None:
    """Check that in `mixed_float16` thresholds are float32 and the target is exact."""
    with dtype_policy("mixed_float16"):
        model = _fit(threshold)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer), "loss scaling was lost"
    dtypes = {t.dtype for layer in masked_layer.masked_layers(model) for t in layer.thresholds}
    assert dtypes == {"float32"}, "thresholds have the compute dtype"
    _assert_target(model, "in mixed precision")


@check
def check_gradient_accumulation(threshold: str) -> None:
    """Check that the target is exact with gradient accumulation, where thresholds change in every other batch."""
    inner = keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2)
    _assert_target(_fit(threshold, optimizer=inner), "with gradient accumulation")


@check
@only("tensorflow")
def check_two_replicas_agree(threshold: str) -> None:
    """Check that two replicas are equal after every step, and end as one device with the same batches does."""

    def look(model):
        for layer in masked_layer.masked_layers(model):
            for variable in (*layer.kernels, *layer.thresholds, layer.alpha):
                first, second = replicas.replica_values(variable)
                assert np.array_equal(first, second), f"{variable.path} differs between the replicas"

    with two_cpu_strategy().scope():
        mirrored = _fit(threshold, callbacks=[AfterEveryStep(look)])
    assert_same(mirrored, _fit(threshold), "two replicas instead of one device", exactly=False)


@check
def check_finalized(threshold: str) -> None:
    """Check that the plain model and its export have the masked weights, the original's names and the same outputs."""
    import tensorflow as tf

    model, (x, _) = _fit(threshold), small_data()
    plain = masked_layer.finalize(model)
    outputs = model.predict(x[:4], verbose=0)
    names = [[v.path.split("/")[-2:] for v in m.variables] for m in (plain, small_model())]
    assert names[0] == names[1], "other variables"
    assert np.allclose(plain.predict(x[:4], verbose=0), outputs, atol=1e-6), "other outputs"
    for kernel, mask in zip([v for v in to_arrays(plain.variables) if v.ndim > 1], _masks(model), strict=True):
        assert np.array_equal(kernel != 0, mask != 0), "zeros were lost"
    with tempfile.TemporaryDirectory() as folder:
        loaded = tf.saved_model.load(str(export(model, pathlib.Path(folder) / "out")))
        assert np.allclose(loaded.serve(x[:4]), outputs, atol=1e-5), "other outputs of the export"
