"""Checks of a pruner outside training: configuration, counts, ties, monotone masks."""

import math

import keras
import numpy as np
from keras import ops

from tfsparse.masks.topk import num_pruned
from tfsparse.pruners import Pruner
from tfsparse.testing.fixtures import SPARSITY, assert_counts, num_zeros, to_arrays
from tfsparse.testing.registry import check


@check
def check_config(pruner: Pruner) -> None:
    """A pruner that was saved and loaded equals the original."""
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(pruner))
    assert again == pruner, f"from_config(get_config()) gives {again!r} instead of {pruner!r}"


@check
def check_exact_count_with_ties(pruner: Pruner) -> None:
    """The number of zeros is exact if all weights are equal, for counts that are numbers and for tensors."""
    weights = [ops.ones((8, 12)), ops.convert_to_tensor(np.tile([0.5, 1.0], (3, 3, 8, 4)).astype("float32"))]
    ones = [ops.ones_like(w) for w in weights]
    shapes = [tuple(w.shape) for w in weights]
    for sparsity in (0.0, 0.25, SPARSITY):
        targets = [pruner.num_prunable(shape, sparsity) for shape in shapes]
        for counts in (targets, [ops.convert_to_tensor(n, "int32") for n in targets]):
            masks = list(pruner.masks(weights, weights, ones, counts))
            assert_counts(pruner, shapes, targets, [num_zeros(m) for m in masks], f"ties at sparsity {sparsity}")
            assert all(set(np.unique(m)) <= {0.0, 1.0} for m in to_arrays(masks)), "a mask is neither 0 nor 1"


@check
def check_monotone(pruner: Pruner) -> None:
    """A pruned weight stays pruned while the sparsity grows, even if weights that are kept are zero."""
    if not pruner.monotone:
        return
    random = np.random.default_rng(0)
    masks, pruned_before = [ops.ones((16, 8)), ops.ones((8, 8))], None
    for sparsity in (0.1, 0.2, 0.3, 0.4, 0.5):
        weights = [random.normal(size=m.shape).round(1).astype("float32") * m for m in to_arrays(masks)]
        weights = [ops.convert_to_tensor(w) for w in weights]
        gradients = [ops.convert_to_tensor(random.normal(size=m.shape).astype("float32")) for m in masks]
        counts = [num_pruned(sparsity, math.prod(m.shape)) for m in masks]
        masks = list(pruner.masks(weights, gradients, masks, counts))
        pruned = [m == 0 for m in to_arrays(masks)]
        if pruned_before is not None:
            both = zip(pruned, pruned_before, strict=True)
            assert all(np.all(now[before]) for now, before in both), "a pruned weight came back"
        pruned_before = pruned
