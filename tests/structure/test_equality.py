"""Random graphs: what is shrunk gives what the masked model gave, and is as small as the mask.

`TFSPARSE_GRAPHS=1000 pytest tests/structure/test_equality.py` takes more of them.
"""

import os

import keras
import numpy as np
import pytest
from structure import random_models

from tfsparse.structure import Channels, mask_channels, shrink

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


def asked_widths(graph, alive):
    """What the variables that carry free channels should measure along their axis, from the groups alone."""
    return {
        (s.variable.path, s.axis): int(alive[s.ids].sum())
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


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_a_shrunk_random_graph_gives_what_the_masked_one_gave(seed):
    plain = seed % 2 == 0
    model = random_models.random_model(seed, plain)
    random, x = np.random.default_rng(seed), random_models.inputs_of(model)
    graph = Channels(model)
    keep = random_keep(graph, random)
    alive, dense = graph.keep(keep), model.get_weights()

    mask_channels(model, keep)
    masked = outputs(model, x)
    found = shrink(model)
    assert_same(outputs(found, x), masked)
    assert type(found) is type(model)
    if plain:
        shapes = widths(found)
        for (path, axis), width in asked_widths(graph, alive).items():
            assert shapes[path][axis] <= max(width, 1), path

    model.set_weights(dense)
    told = shrink(model, keep=keep)
    if plain:  # elsewhere a masked channel may be a constant, which `keep` drops all the same
        assert_same(outputs(told, x), masked)
    shapes = widths(told)
    for (path, axis), width in asked_widths(graph, alive).items():
        assert shapes[path][axis] == width, path
    for before, after in zip(dense, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)  # the model itself is as it was


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_a_random_graph_with_zero_filters_and_all_else_alive_keeps_its_function(seed):
    model = random_models.random_model(seed, plain=seed % 2 == 0)
    x = random_models.inputs_of(model)
    zero_single_filters(model, np.random.default_rng(seed))
    masked = outputs(model, x)
    smaller = shrink(model)
    assert_same(outputs(smaller, x), masked)
    assert smaller.count_params() <= model.count_params()
