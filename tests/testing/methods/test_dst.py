"""The battery for trainable thresholds, and planted bugs that it must find."""

import pytest
from keras import ops
from thoroughly import also

from tfsparse import testing
from tfsparse.backend import ops as backend_ops
from tfsparse.masks import topk
from tfsparse.methods.dst import layer_core
from tfsparse.methods.dst.target_callback import TargetSparsityCallback
from tfsparse.testing.methods import dst as battery


@pytest.mark.parametrize("check", testing.threshold_checks(), ids=lambda c: c.__name__)
@pytest.mark.parametrize("threshold", ["vector"])
def test_vector(threshold, check):
    check(threshold)


@pytest.mark.parametrize("threshold", ["scalar", *also(["matrix"])])
def test_other_kinds(threshold):
    battery.check_target(threshold)
    battery.check_resume_from_file(threshold)


@pytest.mark.parametrize(
    ("owner", "name", "bug", "check"),
    [
        (topk, "global_masks", lambda scores, sparsity: [ops.ones_like(s) for s in scores], "check_target"),
        (layer_core.ResetConstraint, "__call__", lambda self, threshold: threshold, "check_reset"),
        (backend_ops, "masked", lambda values, mask: values, "check_finalized"),
    ],
    ids=["no cut", "no reset", "no zeros"],
)
def test_planted_bugs_are_found(monkeypatch, owner, name, bug, check):
    monkeypatch.setattr(owner, name, bug)
    with pytest.raises(AssertionError):
        getattr(battery, check)("vector")


def test_a_controller_that_starts_anew_when_a_fit_resumes_is_found(monkeypatch):
    monkeypatch.setattr(TargetSparsityCallback, "_is_new", lambda self: True)
    with pytest.raises(AssertionError, match="resumed from a .keras file"):
        battery.check_resume_from_file("vector")
