"""The battery over DST's thresholds, and planted bugs that must turn it red."""

import pytest
from keras import ops
from thoroughly import also

from tfsparse import testing
from tfsparse.backend import ops as backend_ops
from tfsparse.masks import topk
from tfsparse.methods.dst import layer_core
from tfsparse.methods.dst.target_callback import TargetSparsityCallback
from tfsparse.testing import thresholds as battery


@pytest.mark.parametrize("check", testing.threshold_checks(), ids=lambda c: c.__name__)
@pytest.mark.parametrize("threshold", ["vector"])
def test_vector(threshold, check):
    check(threshold)


@pytest.mark.parametrize("threshold", ["scalar", *also(["matrix"])])
def test_other_kinds(threshold):
    battery.check_target(threshold)
    battery.check_thresholds_resume_from_file(threshold)


@pytest.mark.parametrize(
    ("place", "name", "bug", "check"),
    [
        (topk, "global_masks", lambda scores, sparsity: [ops.ones_like(s) for s in scores], "check_target"),
        (layer_core.ResetConstraint, "__call__", lambda self, threshold: threshold, "check_reset"),
        (backend_ops, "masked", lambda values, mask: values, "check_finalized"),
    ],
    ids=["no cut", "no reset", "no zeros"],
)
def test_planted_bugs_are_found(monkeypatch, place, name, bug, check):
    monkeypatch.setattr(place, name, bug)
    with pytest.raises(AssertionError):
        getattr(battery, check)("vector")


def test_planted_loss_of_memory_is_found(monkeypatch):
    """A controller that starts anew when a fit resumes."""
    monkeypatch.setattr(TargetSparsityCallback, "_is_new", lambda self: True)
    with pytest.raises(AssertionError, match="resumed from a .keras file"):
        battery.check_thresholds_resume_from_file("vector")
