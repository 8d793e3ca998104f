"""One battery that every pruner must pass, also other people's.

>>> tfsparse.testing.check_pruner(MyPruner())                                     # all of it
>>> @pytest.mark.parametrize("check", tfsparse.testing.checks(), ids=lambda c: c.__name__)
... def test_my_pruner(check):
...     check(MyPruner())
"""

import functools
import os
import pathlib
import tempfile
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from tfsparse import distribute, wrapping
from tfsparse.callbacks import Prune
from tfsparse.export import export
from tfsparse.optimizers import SparseOptimizer
from tfsparse.pruners import Pruner
from tfsparse.schedules import OneCycle

SPARSITY, EPOCHS, BATCH, STEPS = 0.5, 3, 16, 4  # steps per epoch
_CHECKS: list[Callable[[Pruner], None]] = []


def check_pruner(pruner: Pruner) -> None:
    """Run every check that applies to this backend.

    Raises: AssertionError saying which promise is broken.
    """
    for check in checks():
        check(pruner)


def checks() -> list[Callable[[Pruner], None]]:
    """The checks that apply to this backend: functions that take a pruner."""
    return [c for c in _CHECKS if getattr(c, "backend", keras.backend.backend()) == keras.backend.backend()]


def two_replicas() -> None:
    """Split the CPU into two logical devices, as `check_mirrored` needs; call it before TensorFlow is used."""
    import tensorflow as tf

    half = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [half, half])


def _check(function):
    _CHECKS.append(function)
    return function


def _only(backend):
    def mark(function):
        function.backend = backend
        return function

    return mark


# ---- what is trained ------------------------------------------------------------------------------------------------


def small_model() -> keras.Model:
    """A convolution and two dense layers with seeded weights."""
    keras.utils.set_random_seed(7)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="relu", name="hidden"),
            keras.layers.Dense(4, name="head"),
        ]
    )


def small_data() -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, the same every time."""
    random = np.random.default_rng(3)
    size = BATCH * STEPS
    return random.normal(size=(size, 6, 6, 1)).astype("float32"), random.integers(0, 4, size)


def _fit(pruner, optimizer=None, model=None, callbacks=(), epochs=EPOCHS, prune=None, **compile_options):
    model = model or small_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss, **compile_options)
    return _fit_on(model, [prune or Prune("one_cycle", SPARSITY, pruner), *callbacks], epochs)


def _fit_on(model, callbacks, epochs=EPOCHS, **options):
    x, y = small_data()
    model.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks, **options)
    return model


def _values(variables) -> list[np.ndarray]:
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


def _zeros(mask) -> int:
    return int(np.sum(ops.convert_to_numpy(mask) == 0))


def _assert_counts(pruner, shapes, wanted, zeros, when):
    """Exact per weight; for weights that compete, exact in total, or to one unit where units are larger."""
    short = sum(wanted) - sum(zeros)
    exact = 0 <= short < max(pruner.unit(s) for s in shapes) if pruner.jointly else wanted == zeros
    assert exact, f"{when}: asked {wanted} zeros, got {zeros}"


def _assert_kept(model, when):
    """`weight == weight * mask`."""
    optimizer = wrapping.sparse_optimizer(model)
    for variable, mask in zip(_values(optimizer.pruned_variables), _values(optimizer.masks), strict=True):
        assert np.array_equal(variable, variable * mask), f"a pruned weight is not zero {when}"


def _assert_target(model, pruner, sparsity=SPARSITY):
    """The zeros asked are the zeros there."""
    optimizer = wrapping.sparse_optimizer(model)
    shapes = [tuple(v.shape) for v in optimizer.pruned_variables]
    wanted = [pruner.reachable(shape, sparsity) for shape in shapes]
    _assert_counts(pruner, shapes, wanted, [_zeros(m) for m in optimizer.masks], "after training")
    assert all(np.any(m) for m in _values(optimizer.masks)), "a layer was emptied"
    _assert_kept(model, "after training")


def _assert_same(model, other, what, exactly=True):
    for mask, expected in zip(
        _values(wrapping.sparse_optimizer(model).masks), _values(wrapping.sparse_optimizer(other).masks), strict=True
    ):
        assert np.array_equal(mask, expected), f"{what}: other masks ({np.sum(mask != expected)} entries)"
    for value, expected in zip(_values(model.variables), _values(other.variables), strict=True):
        same = np.array_equal(value, expected) if exactly else np.allclose(value, expected, rtol=1e-4, atol=1e-5)
        assert same, f"{what}: other weights (by {np.max(np.abs(value - expected))})"


class _EveryStep(keras.callbacks.Callback):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_train_batch_end(self, batch, logs=None):
        self.function(self.model)


class _Interruption(Exception):
    pass


def _interrupt(epoch):
    def stop(now, logs=None):
        if now == epoch:
            raise _Interruption

    return keras.callbacks.LambdaCallback(on_epoch_begin=stop)


# ---- the pruner alone -----------------------------------------------------------------------------------------------


@_check
def check_config(pruner: Pruner) -> None:
    """A saved pruner is the same pruner."""
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(pruner))
    assert again == pruner, f"from_config(get_config()) gives {again!r} instead of {pruner!r}"


@_check
def check_exact_count_with_ties(pruner: Pruner) -> None:
    """Equal weights are told apart: the count is exact, as a number of entries and as a fraction."""
    weights = [ops.ones((8, 12)), ops.convert_to_tensor(np.tile([0.5, 1.0], (3, 3, 8, 4)).astype("float32"))]
    ones = [ops.ones_like(w) for w in weights]
    shapes = [tuple(w.shape) for w in weights]
    for sparsity in (0.0, 0.25, SPARSITY):
        wanted = [pruner.reachable(shape, sparsity) for shape in shapes]
        for asked in ([sparsity] * 2, wanted):
            masks = pruner.masks(weights, weights, ones, asked)
            _assert_counts(pruner, shapes, wanted, [_zeros(m) for m in masks], f"ties at sparsity {sparsity}")
            assert all(set(np.unique(m)) <= {0.0, 1.0} for m in _values(masks)), "a mask is neither 0 nor 1"


@_check
def check_monotone(pruner: Pruner) -> None:
    """A pruned weight stays pruned while the sparsity grows, even beside living zeros."""
    if not pruner.monotone:
        return
    random = np.random.default_rng(0)
    masks, dead = [ops.ones((16, 8)), ops.ones((8, 8))], None
    for sparsity in (0.1, 0.2, 0.3, 0.4, 0.5):
        values = [random.normal(size=m.shape).round(1).astype("float32") * m for m in _values(masks)]
        weights = [ops.convert_to_tensor(v.astype("float32")) for v in values]
        gradients = [ops.convert_to_tensor(random.normal(size=v.shape).astype("float32")) for v in values]
        masks = pruner.masks(weights, gradients, masks, [sparsity] * 2)
        now = [m == 0 for m in _values(masks)]
        if dead is not None and not pruner.jointly:
            assert all(np.all(n[d]) for n, d in zip(now, dead, strict=True)), "a pruned weight came back"
        dead = now


# ---- in training ----------------------------------------------------------------------------------------------------


@_check
def check_zero_after_every_step(pruner: Pruner) -> None:
    """`weight == weight * mask` after every `apply`, and the exact target at the end."""
    model = _fit(pruner, callbacks=[_EveryStep(lambda m: _assert_kept(m, "after a step"))])
    _assert_target(model, pruner)


@_check
def check_engines_agree(pruner: Pruner) -> None:
    """Eager, graph, jit and several steps per execution give the same masks and weights."""
    eager = _fit(pruner, run_eagerly=True)
    for options in ({"jit_compile": False}, {"jit_compile": True}, {"steps_per_execution": 3, "jit_compile": False}):
        _assert_same(_fit(pruner, **options), eager, f"{options} instead of eager", exactly=False)


@_check
def check_traced_once(pruner: Pruner) -> None:
    """Ten steps are traced once: nothing of the pruner is Python per step."""
    traces = []

    class Counting(type(pruner)):
        def masks(self, weights, *others):
            traces.append(len(weights))
            return super().masks(weights, *others)

    model = _fit(Counting.from_config(pruner.get_config()))
    groups = len(wrapping.sparse_optimizer(model)._state.groups)
    assert 0 < len(traces) <= 2 * groups, f"masks was traced {len(traces)} times in {EPOCHS * STEPS} steps"


def _rare(pruner, **options):
    """Masks computed at steps 1, 7, 13 and 16 only: between them a resumed run must have kept them."""
    return Prune(OneCycle(updates=3), SPARSITY, pruner, **options)


@_check
def check_resume_from_file(pruner: Pruner) -> None:
    """Two epochs, save to `.keras`, load, two more: bit for bit four epochs."""
    straight = _fit(pruner, epochs=4, prune=_rare(pruner))
    first = _fit(pruner, epochs=2, prune=_rare(pruner, total_steps=4 * STEPS))
    with tempfile.TemporaryDirectory() as folder:
        first.save(os.path.join(folder, "model.keras"))
        second = keras.models.load_model(os.path.join(folder, "model.keras"))
    _fit_on(second, [_rare(pruner)], epochs=4, initial_epoch=2)
    _assert_same(second, straight, "resumed from a .keras file")


@_check
def check_resume_from_backup(pruner: Pruner) -> None:
    """A run killed between epochs goes on from `BackupAndRestore` as if nothing had happened."""
    straight = _fit(pruner, epochs=4, prune=_rare(pruner))
    with tempfile.TemporaryDirectory() as folder:
        backup = [keras.callbacks.BackupAndRestore(folder)]
        try:
            _fit(pruner, epochs=4, prune=_rare(pruner), callbacks=[*backup, _interrupt(2)])
        except _Interruption:
            resumed = _fit(pruner, epochs=4, prune=_rare(pruner), callbacks=[keras.callbacks.BackupAndRestore(folder)])
    _assert_same(resumed, straight, "resumed from BackupAndRestore")


@_check
@_only("tensorflow")
def check_resume_from_tf_checkpoint(pruner: Pruner) -> None:
    """`tf.train.Checkpoint` saves and restores masks and position."""
    import tensorflow as tf

    straight, part = _fit(pruner, epochs=4, prune=_rare(pruner)), _rare(pruner, total_steps=4 * STEPS)
    first, second = _fit(pruner, epochs=2, prune=part), _fit(pruner, epochs=1, prune=part)
    with tempfile.TemporaryDirectory() as folder:
        path = tf.train.Checkpoint(model=first, optimizer=first.optimizer).save(os.path.join(folder, "checkpoint"))
        tf.train.Checkpoint(model=second, optimizer=second.optimizer).restore(path).assert_existing_objects_matched()
    _fit_on(second, [part], epochs=4, initial_epoch=2)
    _assert_same(second, straight, "resumed from tf.train.Checkpoint")


@_check
def check_plain_weights(pruner: Pruner) -> None:
    """Weights of the plain model load before pruning, and the pruned model's load into the plain one."""
    with tempfile.TemporaryDirectory() as folder:
        plain = small_model()
        plain.save_weights(os.path.join(folder, "plain.weights.h5"))
        model = small_model()
        model.load_weights(os.path.join(folder, "plain.weights.h5"))
        names = [v.path for v in model.variables]
        model = _fit(pruner, model=model)
        assert names == [v.path for v in model.variables], "pruning renamed the model's variables"
        model.save_weights(os.path.join(folder, "sparse.weights.h5"))
        plain.load_weights(os.path.join(folder, "sparse.weights.h5"))
    for value, expected in zip(_values(plain.variables), _values(model.variables), strict=True):
        assert np.array_equal(value, expected), "the pruned model's weights do not load into the plain model"


@_check
def check_moving_average(pruner: Pruner) -> None:
    """With EMA the averages that overwrite the weights at the end are sparse too."""
    averaging = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    # linear: the last step prunes weights whose average is not zero yet
    _assert_target(_fit(pruner, averaging, prune=Prune("linear", SPARSITY, pruner)), pruner)


@_check
def check_mixed_precision(pruner: Pruner) -> None:
    """`mixed_float16`: loss scaling outside, exact masks inside, although scaled steps may be skipped."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = _fit(pruner)
    finally:
        keras.config.set_dtype_policy(policy)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer), "loss scaling was lost"
    _assert_target(model, pruner)


@_check
def check_gradient_accumulation(pruner: Pruner) -> None:
    """Masks change only when the inner optimizer steps, and the target is reached all the same."""
    before = {}

    def look(model):
        optimizer = wrapping.sparse_optimizer(model)
        now = _values(optimizer.masks)
        if before and before["steps"] == optimizer.steps_done:
            assert all(np.array_equal(a, b) for a, b in zip(now, before["masks"], strict=True)), "pruned without a step"
        before.update(steps=optimizer.steps_done, masks=now)

    inner = keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2)
    model = _fit(pruner, inner, callbacks=[_EveryStep(look)])
    assert wrapping.sparse_optimizer(model).steps_done == EPOCHS * STEPS // 2
    _assert_target(model, pruner)


@_check
def check_exclusion_and_overrides(pruner: Pruner) -> None:
    """An excluded layer stays dense, a layer with a sparsity of its own gets it, the others the common one."""
    model = small_model()
    head, hidden = model.get_layer("head"), model.get_layer("hidden")
    prune = Prune("one_cycle", SPARSITY, pruner, exclude=[head], sparsities={hidden: 0.25})
    optimizer = wrapping.sparse_optimizer(_fit(pruner, model=model, prune=prune))
    assert np.all(ops.convert_to_numpy(head.kernel) != 0), "the excluded layer was pruned"
    wanted = pruner.reachable(tuple(hidden.kernel.shape), 0.25)
    assert _zeros(optimizer.mask(hidden.kernel)) == wanted, "set_sparsity was not obeyed"


@_check
def check_export(pruner: Pruner) -> None:
    """The exported model has the zeros and gives the same answers."""
    import tensorflow as tf

    model, (x, _) = _fit(pruner), small_data()
    with tempfile.TemporaryDirectory() as folder:
        loaded = tf.saved_model.load(str(export(model, pathlib.Path(folder) / "out")))
        assert np.allclose(loaded.serve(x[:4]), model.predict(x[:4], verbose=0), atol=1e-5), "other outputs"
    kernels = {tuple(v.shape): v.numpy() for v in loaded.variables}
    for variable, mask in zip(
        wrapping.sparse_optimizer(model).pruned_variables, wrapping.sparse_optimizer(model).masks, strict=True
    ):
        assert int(np.sum(kernels[tuple(variable.shape)] == 0)) >= _zeros(mask), "zeros were lost in the export"


# ---- on several devices ---------------------------------------------------------------------------------------------


@functools.cache  # a second strategy would count its collectives from the same number and mix them up with the first's
def _two_cpus():
    import tensorflow as tf

    devices = [d.name for d in tf.config.list_logical_devices("CPU")]
    assert len(devices) >= 2, "call tfsparse.testing.two_replicas() before TensorFlow is used, as in conftest.py"
    return tf.distribute.MirroredStrategy(devices[:2])


@_check
@_only("tensorflow")
def check_mirrored(pruner: Pruner) -> None:
    """Two replicas agree with each other at every step, and with one device given the same batches."""
    strategy = _two_cpus()

    def look(model):
        optimizer = wrapping.sparse_optimizer(model)
        replicas = zip(*[distribute.replica_values(m) for m in optimizer.masks], strict=True)
        digests = {distribute.digest(masks) for masks in replicas}
        assert len(digests) == 1, "the replicas' masks differ"

    with strategy.scope():
        mirrored = _fit(pruner, callbacks=[_EveryStep(look)])
    _assert_same(mirrored, _fit(pruner), "two replicas instead of one device", exactly=False)


@_check
@_only("jax")
def check_stateless_apply(pruner: Pruner) -> None:
    """`stateless_apply` under `jax.jit` gives what `apply` gives."""
    import jax

    random, results = np.random.default_rng(5), []
    shapes = [v.shape for v in small_model().trainable_variables]
    steps = [[random.normal(size=shape).astype("float32") for shape in shapes] for _ in range(6)]
    for compiled in (False, True):
        model = small_model()
        optimizer = SparseOptimizer(keras.optimizers.SGD(0.1, momentum=0.9), pruner, "linear", SPARSITY, total_steps=6)
        optimizer.build(model.trainable_variables)
        weights, state = [v.value for v in model.trainable_variables], [v.value for v in optimizer.variables]
        step = jax.jit(optimizer.stateless_apply)
        for gradients in steps:
            if compiled:
                weights, state = step(state, [ops.convert_to_tensor(g) for g in gradients], weights)
            else:
                optimizer.apply([ops.convert_to_tensor(g) for g in gradients], model.trainable_variables)
        results.append(weights if compiled else _values(model.trainable_variables))
    for mine, theirs in zip(*results, strict=True):
        assert np.allclose(mine, theirs, atol=1e-6), "stateless_apply under jax.jit differs from apply"
