"""The config section `prune`."""

import pytest
from small_config import small

from tfsparse.experiments import assembly, config
from tfsparse.experiments.methods.prune import PruneConfig


def test_bounds_reach_the_callback():
    (prune,) = assembly.callbacks(small("prune.min_sparsity=0.5", "prune.max_sparsity=0.97"))
    assert prune.choice.bounds == (0.5, 0.97)
    with pytest.raises(ValueError, match=r"\(min_sparsity, max_sparsity\)=\(0.9, 0.5\): expected the least"):
        assembly.callbacks(small("prune.min_sparsity=0.9", "prune.max_sparsity=0.5"))


@pytest.mark.parametrize(
    ("pruner", "scope"),
    [("magnitude", "global"), ({}, "global"), ("random", "layer"), ({"allocation": "erk"}, "layer")],
)
def test_a_config_holds_the_scope_that_it_was_read_with(pruner, scope):
    section = PruneConfig(sparsity=0.5, pruner=pruner)
    assert section.model_dump()["pruner"]["scope"] == scope


def test_a_pruner_without_a_scope_keeps_its_options():
    section = PruneConfig(sparsity=0.5, pruner={"name": "none", "seed": 3})
    assert section.model_dump()["pruner"] == {"name": "none", "seed": 3}


def test_a_config_written_again_is_the_same():
    read = small("prune.pruner=magnitude")
    assert config.differences(read, config.validate(read.model_dump(mode="json"))) == []
