"""The battery over the registered pruners, and planted bugs that must turn it red."""

import keras
import pytest
from keras import ops
from thoroughly import also

from tfsparse import pruners, testing
from tfsparse.backend import replicas
from tfsparse.optimizers import SparseOptimizer
from tfsparse.optimizers.weight_storage import HardPruning

CHECKS = testing.checks()
DIFFERENT = ["magnitude", "feather"]  # masks of the weights as they are, and of weights that live on unseen
PATTERNS = [
    {"granularity": "2:4"},
    {"granularity": {"dense": "channel", "conv": "weight"}, "scope": "global"},
    {"scope": "global"},
    {"granularity": "channel"},
    {"granularity": (1, 4)},
    {"granularity": {"dense": (1, 4), "conv": "weight"}},
    {"granularity": "channel", "scope": "global"},
    {"allocation": "erk"},
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", [*DIFFERENT, *also(sorted({*pruners.names()} - {*DIFFERENT}))])
def test_registered(name, check):
    check(pruners.get(name))


@pytest.mark.parametrize("options", PATTERNS, ids=str)
def test_granularities_and_scopes(options):
    pruner = pruners.Magnitude(**options)
    testing.check_config(pruner)
    testing.check_exact_count_with_ties(pruner)
    testing.check_monotone(pruner)
    testing.check_zero_after_every_step(pruner)


@pytest.mark.exhaustive
@pytest.mark.parametrize("options", PATTERNS, ids=str)
def test_granularities_and_scopes_on_every_engine(options):
    testing.check_execution_modes_agree(pruners.Magnitude(**options))
    testing.check_export(pruners.Magnitude(**options))


# ---- planted bugs: the battery must go red --------------------------------------------------------------------------


class _ByThreshold(pruners.Magnitude):
    """Keeps all ties at the threshold, as most libraries do."""

    def masks(self, weights, gradients, masks, num_pruned):
        result = []
        for w, count in zip(weights, num_pruned, strict=True):
            ordered = ops.sort(ops.abs(ops.reshape(w, (-1,))))
            result.append(ops.cast(ops.abs(w) >= ordered[int(count)], w.dtype))
        return result


class _Regrowing(pruners.Magnitude):
    """Prunes the largest, so that a pruned weight comes back."""

    def score(self, weight, gradient, mask):
        return 1.0 / (ops.abs(weight) + 1.0)


class _Forgetful(pruners.Magnitude):
    """Loses its options when saved."""

    def get_config(self):
        return {"granularity": self.granularity}


class _Halves(pruners.Magnitude):
    """Masks of one half instead of one."""

    def masks(self, weights, gradients, masks, num_pruned):
        return [m * 0.5 for m in super().masks(weights, gradients, masks, num_pruned)]


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (_ByThreshold(), testing.check_exact_count_with_ties),
        (_Regrowing(), testing.check_monotone),
        (_Forgetful(scope="global"), testing.check_config),
        (_Halves(), testing.check_exact_count_with_ties),
        (_Halves(), testing.check_zero_after_every_step),
    ],
    ids=lambda x: getattr(x, "__name__", type(x).__name__),
)
def test_planted_pruner_bug_is_found(broken, check):
    with pytest.raises((AssertionError, TypeError)):
        check(broken)


def test_planted_optimizer_bugs_are_found(monkeypatch):
    magnitude = pruners.Magnitude()
    with monkeypatch.context() as patch:
        patch.setattr(HardPruning, "apply", lambda self: None)  # as TFMOT: masks wait for the next forward pass
        with pytest.raises(AssertionError, match="is not zero after a step"):
            testing.check_zero_after_every_step(magnitude)
    with monkeypatch.context() as patch:
        patch.setattr(SparseOptimizer, "load_own_variables", lambda self, store: None)  # a file without masks goes in
        with pytest.raises(AssertionError, match="resumed from a .keras file"):
            testing.check_resume_from_file(magnitude)
    with monkeypatch.context() as patch:
        patch.setattr(SparseOptimizer, "apply_masks", lambda self: None)  # nothing after the averages came in
        with pytest.raises(AssertionError, match="not zero after training"):
            testing.check_moving_average(magnitude)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replicas are TensorFlow's")
def test_planted_divergence_of_replicas_is_found(monkeypatch):
    monkeypatch.setattr(replicas, "global_gradients", list)  # trap 2: every replica scores its own gradients
    monkeypatch.setattr(replicas, "divide_by_replicas", lambda g: g)
    with pytest.raises(AssertionError, match="two replicas instead of one device"):
        testing.check_two_replicas_agree(pruners.Saliency())
