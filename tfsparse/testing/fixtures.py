"""What the batteries train, and what they assert."""

import keras
import numpy as np
from keras import ops

from tfsparse.callbacks import Prune
from tfsparse.optimizers import compiled_model
from tfsparse.pruners import Pruner

SPARSITY, EPOCHS, BATCH, STEPS = 0.5, 3, 16, 4  # STEPS: per epoch


def small_model() -> keras.Model:
    """Return a convolution and two dense layers with seeded weights."""
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
    """Return 64 random images of 6 x 6 pixels and their labels in [0, 4); the same at every call."""
    random = np.random.default_rng(3)
    size = BATCH * STEPS
    return random.normal(size=(size, 6, 6, 1)).astype("float32"), random.integers(0, 4, size)


def fit(pruner: Pruner, optimizer=None, model=None, callbacks=(), epochs=EPOCHS, prune=None, **compile_options):
    """Compile the small model (or `model`) and train it with One-Cycle Pruning (or with `prune`)."""
    model = model or small_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss, **compile_options)
    return fit_compiled(model, [prune or Prune("one_cycle", SPARSITY, pruner), *callbacks], epochs)


def fit_compiled(model, callbacks, epochs=EPOCHS, **options):
    """Train a compiled model on the small data and return it."""
    x, y = small_data()
    model.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks, **options)
    return model


def to_arrays(variables) -> list[np.ndarray]:
    """Return the values of variables or tensors."""
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


def num_zeros(mask) -> int:
    """Return how many entries of a mask are zero."""
    return int(np.sum(ops.convert_to_numpy(mask) == 0))


def assert_counts(pruner, shapes, targets, counts, when):
    """Assert the number of zeros: of each weight, or with a global scope the sum, to within one unit."""
    missing = abs(sum(targets) - sum(counts))
    met = missing < max(pruner.entries_per_unit(s) for s in shapes) if pruner.is_global else targets == counts
    assert met, f"{when}: expected {targets} zeros, got {counts}"


def assert_pruned_are_zero(model, when):
    """Assert `weight == weight * mask`."""
    optimizer = compiled_model.sparse_optimizer(model)
    for weight, mask in zip(to_arrays(optimizer.pruned_variables), to_arrays(optimizer.masks), strict=True):
        assert np.array_equal(weight, weight * mask), f"a pruned weight is not zero {when}"


def assert_target(model, pruner, sparsity=SPARSITY):
    """Assert that the masks have the number of zeros that `sparsity` means, and the weights those of the masks."""
    optimizer = compiled_model.sparse_optimizer(model)
    shapes = [tuple(v.shape) for v in optimizer.pruned_variables]
    sparsities = pruner.allocate(shapes, sparsity)
    alone = [pruner.num_prunable(shape, s) for shape, s in zip(shapes, sparsities, strict=True)]
    targets = pruner.num_prunable_together(shapes, sparsity) if pruner.is_global else alone
    assert_counts(pruner, shapes, targets, [num_zeros(m) for m in optimizer.masks], "after training")
    assert all(np.any(m) for m in to_arrays(optimizer.masks)), "a layer was emptied"
    assert_pruned_are_zero(model, "after training")


def assert_same(model, other, what, exactly=True):
    """Assert equal masks, and weights that are equal bit for bit or within float32 round-off."""
    masks, others = (to_arrays(mask for _, mask in compiled_model.masks(m)) for m in (model, other))
    for mask, expected in zip(masks, others, strict=True):
        assert np.array_equal(mask, expected), f"{what}: other masks ({np.sum(mask != expected)} entries)"
    for value, expected in zip(to_arrays(model.variables), to_arrays(other.variables), strict=True):
        same = np.array_equal(value, expected) if exactly else np.allclose(value, expected, rtol=1e-4, atol=1e-5)
        assert same, f"{what}: other weights (by {np.max(np.abs(value - expected))})"


class AfterEveryStep(keras.callbacks.Callback):
    """Calls `function(model)` after every batch."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_train_batch_end(self, batch, logs=None):
        self.function(self.model)


class Interruption(Exception):
    """Raised by `interrupt`."""


def interrupt(epoch):
    """Return a callback that ends training with an `Interruption` when this epoch begins."""

    def stop(current_epoch, logs=None):
        if current_epoch == epoch:
            raise Interruption

    return keras.callbacks.LambdaCallback(on_epoch_begin=stop)
