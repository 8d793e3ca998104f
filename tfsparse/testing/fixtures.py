"""What the battery trains, and what it asserts."""

import keras
import numpy as np
from keras import ops

from tfsparse.callbacks import Prune
from tfsparse.optimizers import compiled_model
from tfsparse.pruners import Pruner

SPARSITY, EPOCHS, BATCH, STEPS = 0.5, 3, 16, 4  # steps per epoch


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


def fit(pruner: Pruner, optimizer=None, model=None, callbacks=(), epochs=EPOCHS, prune=None, **compile_options):
    """Compile the small model (or `model`) and train it with One-Cycle Pruning (or `prune`)."""
    model = model or small_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss, **compile_options)
    return fit_on(model, [prune or Prune("one_cycle", SPARSITY, pruner), *callbacks], epochs)


def fit_on(model, callbacks, epochs=EPOCHS, **options):
    """Fit the model as it is compiled on the small data."""
    x, y = small_data()
    model.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks, **options)
    return model


def values(variables) -> list[np.ndarray]:
    """Variables as arrays."""
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


def zeros(mask) -> int:
    """How many entries of a mask are zero."""
    return int(np.sum(ops.convert_to_numpy(mask) == 0))


def assert_counts(pruner, shapes, wanted, zeros, when):
    """Exact per weight; for weights that compete, exact in total, or to one unit where units are larger."""
    short = sum(wanted) - sum(zeros)
    exact = 0 <= short < max(pruner.entries_per_unit(s) for s in shapes) if pruner.is_global else wanted == zeros
    assert exact, f"{when}: asked {wanted} zeros, got {zeros}"


def assert_kept(model, when):
    """`weight == weight * mask`."""
    optimizer = compiled_model.sparse_optimizer(model)
    for variable, mask in zip(values(optimizer.pruned_variables), values(optimizer.masks), strict=True):
        assert np.array_equal(variable, variable * mask), f"a pruned weight is not zero {when}"


def assert_target(model, pruner, sparsity=SPARSITY):
    """The zeros asked are the zeros there."""
    optimizer = compiled_model.sparse_optimizer(model)
    shapes = [tuple(v.shape) for v in optimizer.pruned_variables]
    shares = pruner.allocate(shapes, sparsity)
    wanted = [pruner.num_prunable(shape, share) for shape, share in zip(shapes, shares, strict=True)]
    assert_counts(pruner, shapes, wanted, [zeros(m) for m in optimizer.masks], "after training")
    assert all(np.any(m) for m in values(optimizer.masks)), "a layer was emptied"
    assert_kept(model, "after training")


def assert_same(model, other, what, exactly=True):
    """Equal masks, and equal weights, bit for bit or within float32 round-off."""
    masks, others = (values(mask for _, mask in compiled_model.masks(m)) for m in (model, other))
    for mask, expected in zip(masks, others, strict=True):
        assert np.array_equal(mask, expected), f"{what}: other masks ({np.sum(mask != expected)} entries)"
    for value, expected in zip(values(model.variables), values(other.variables), strict=True):
        same = np.array_equal(value, expected) if exactly else np.allclose(value, expected, rtol=1e-4, atol=1e-5)
        assert same, f"{what}: other weights (by {np.max(np.abs(value - expected))})"


class EveryStep(keras.callbacks.Callback):
    """Calls `function(model)` after every batch."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_train_batch_end(self, batch, logs=None):
        self.function(self.model)


class Interruption(Exception):
    """A run that was killed."""



def interrupt(epoch):
    """A callback that kills the run when this epoch begins."""
    def stop(now, logs=None):
        if now == epoch:
            raise Interruption

    return keras.callbacks.LambdaCallback(on_epoch_begin=stop)
