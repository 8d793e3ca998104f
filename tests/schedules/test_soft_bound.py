import itertools

import numpy as np
import pytest

import tfsparse
from tfsparse import SET, SoftBound
from tfsparse.optimizers import compiled_model
from tfsparse.testing import fixtures


def test_golden_levels():
    """At the authors' epochs of 160: 85 % until 90, 87.5 % until 120, then 90 %."""
    levels = [0.9 * SoftBound()(epoch / 160) for epoch in (0, 1, 89, 90, 119, 120, 160)]
    np.testing.assert_allclose(levels, [0.85, 0.85, 0.85, 0.875, 0.875, 0.9, 0.9], rtol=1e-6)


@pytest.mark.parametrize("total", [7, 10, 1000])
def test_a_boundary_is_not_moved_by_round_off(total):
    schedule = SoftBound((0.1, 0.2, 0.8), (0.3, 0.7))
    steps = np.arange(1, total + 1)
    expected = np.select([steps * 10 >= 7 * total, steps * 10 >= 3 * total], [0.8, 0.2], 0.1)
    np.testing.assert_allclose(0.8 * np.array(schedule.fraction(steps, total)), expected, rtol=1e-5)


def test_set_keeps_more_weights_early_and_ends_at_the_target():
    """Each update before the last boundary exchanges weights; the counts are those of the levels."""
    counts, masks = [], []

    def count(model):
        masks.append(fixtures.to_arrays(compiled_model.sparse_optimizer(model).masks)[1])
        counts.append(int(np.sum(masks[-1] == 0)))

    prune = tfsparse.Prune(
        SoftBound((0.5, 0.6, 0.75), (0.5, 0.75)), 0.75, SET(allocation="uniform", drop_fraction=1 / 3, end=0.75)
    )
    model = fixtures.fit(None, epochs=3, prune=prune, callbacks=[fixtures.AfterEveryStep(count)])
    size = masks[0].size
    assert counts == [round(0.5 * size)] * 5 + [round(0.6 * size)] * 3 + [round(0.75 * size)] * 4
    assert all(np.any((after == 1) & (before == 0)) for before, after in itertools.pairwise(masks[:5]))
    assert not np.any((masks[-1] == 1) & (masks[8] == 0))
    fixtures.assert_target(model, prune.pruner, 0.75)


@pytest.mark.parametrize("boundaries", [(0.5,), (0.7, 0.5), (0.0, 0.5), (0.5, 1.0), (0.5, float("nan"))])
def test_boundaries_must_be_ascending_fractions(boundaries):
    with pytest.raises(ValueError, match=r"SoftBound got boundaries=.* for 3 levels: expected 2 ascending fractions"):
        SoftBound(boundaries=boundaries)


def test_levels_must_be_ascending_sparsities_that_end_at_the_target():
    with pytest.raises(ValueError, match=r"SoftBound got levels=.*: expected at least two ascending sparsities"):
        SoftBound((0.9, 0.85))
    with pytest.raises(ValueError, match=r"sparsity=0.95, but the last level of .* is 0.9"):
        tfsparse.Prune("soft_bound", 0.95, "set")
