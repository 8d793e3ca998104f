"""Random graphs: what is shrunk gives what the masked model gave, and is as small as the mask.

`TFSPARSE_GRAPHS=1000 pytest tests/structure/test_equality.py -m ""` takes more of them.
"""

import os

import keras
import numpy as np
import pytest
from structured import random_models
from thoroughly import also

from tfsparse.structured import Channels, mask_channels, shrink

GRAPHS = int(os.environ.get("TFSPARSE_GRAPHS", 200))
TOLERANCE = 1e-4


def outputs(model, x):
    """All outputs in inference mode."""
    return [np.asarray(y) for y in keras.tree.flatten(model(x, training=False))]


def assert_same(results, expected):
    """Relative to the largest number of each output."""
    assert len(results) == len(expected)
    for result, target in zip(results, expected, strict=True):
        assert result.shape == target.shape
        assert np.isfinite(target).all()
        assert np.max(np.abs(result - target)) <= TOLERANCE * np.max(np.abs(target)) + 1e-6


def random_keep(graph, random):
    """About two channels in three of every free group, at least one."""
    keep = {}
    for group in graph.groups:
        if not group.frozen:
            keep[group.name] = random.random(len(group)) < 0.65
            keep[group.name][random.integers(len(group))] = True
    return keep


def widths(model):
    """Shapes of all variables by path."""
    return {v.path: tuple(v.shape) for v in model.variables}


def expected_widths(graph, kept):
    """What the variables that carry free channels should measure along their axis, from the groups alone."""
    return {
        (s.variable.path, s.axis): int(kept[s.ids].sum())
        for group in graph.groups
        if not group.frozen
        for s in (*group.outputs, *group.inputs)
    }


def zero_single_filters(model, random):
    """What a magnitude pruner of channels leaves: zeros in kernels, each layer for itself, all else untouched."""
    for variable in model.trainable_variables:
        if variable.name in ("kernel", "pointwise_kernel"):
            kernel = variable.numpy()
            kernel[..., random.random(kernel.shape[-1]) < 0.4] = 0
            variable.assign(kernel)


def check_mask_is_found(graph, x, keep, all_can_go):
    """Masked channels: `shrink` finds them by itself, and `shrink(keep=...)` drops them from the unmasked model."""
    model, dense, expected = graph.model, graph.model.get_weights(), expected_widths(graph, graph.keep(keep))
    mask_channels(model, keep)
    masked, automatic = outputs(model, x), shrink(model)
    assert_same(outputs(automatic, x), masked)
    assert type(automatic) is type(model)
    model.set_weights(dense)
    explicit = shrink(model, keep=keep)
    shapes, smallest = widths(explicit), widths(automatic)
    assert {key: shapes[key[0]][key[1]] for key in expected} == expected
    if all_can_go:  # elsewhere a masked channel may be a constant, which `keep` drops all the same
        assert_same(outputs(explicit, x), masked)
        assert all(smallest[path][axis] <= width for (path, axis), width in expected.items())
    for before, after in zip(dense, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)  # the model itself is as it was


def check_zero_filters(model, x, random):
    """Biases, gamma and beta live on: what is constant is folded or stays."""
    zero_single_filters(model, random)
    smaller = shrink(model)
    assert_same(outputs(smaller, x), outputs(model, x))
    assert Channels(smaller).macs() <= Channels(model).macs()


@pytest.mark.parametrize("seed", [*range(0, GRAPHS, 10), *also(seed for seed in range(GRAPHS) if seed % 10)])
def test_a_shrunk_random_graph_gives_what_the_masked_one_gave(seed):
    plain = seed % 2 == 0
    model, random = random_models.random_model(seed, plain), np.random.default_rng(seed)
    x, graph = random_models.inputs_of(model), Channels(model)
    check_mask_is_found(graph, x, random_keep(graph, random), all_can_go=plain)
    check_zero_filters(model, x, random)
