"""The battery passes for all registered pruners and fails for pruners and optimizers with planted bugs."""

import pathlib
import re

import keras
import pytest
from keras import ops
from thoroughly import also

from tfsparse import pruners, testing
from tfsparse.backend import replicas
from tfsparse.optimizers import SparseOptimizer
from tfsparse.optimizers.mask_state import MaskState
from tfsparse.optimizers.weight_storage import HardPruning

CHECKS = testing.checks()
IN_TRAINING = sorted(name for name in pruners.names() if not pruners.get(name).needs_calibration)
ALWAYS = ["magnitude", "feather"]  # hard pruning and straight-through; the others in exhaustive runs
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
@pytest.mark.parametrize("name", [*ALWAYS, *also([name for name in IN_TRAINING if name not in ALWAYS])])
def test_registered_pruners_pass(name, check):
    check(pruners.get(name))


@pytest.mark.filterwarnings("ignore:.*prunes whole units")  # 2:4 leaves a convolution of one channel dense
@pytest.mark.parametrize("options", PATTERNS, ids=str)
def test_granularities_and_scopes_pass(options):
    pruner = pruners.Magnitude(**options)
    testing.check_config(pruner)
    testing.check_exact_count_with_ties(pruner)
    testing.check_monotone(pruner)
    testing.check_zero_after_every_step(pruner)


@pytest.mark.filterwarnings("ignore:.*prunes whole units")  # 2:4 leaves a convolution of one channel dense
@pytest.mark.exhaustive
@pytest.mark.parametrize("options", PATTERNS, ids=str)
def test_granularities_and_scopes_pass_in_all_execution_modes(options):
    testing.check_execution_modes_agree(pruners.Magnitude(**options))
    testing.check_export(pruners.Magnitude(**options))


@pytest.mark.exhaustive
def test_the_pruners_of_the_documentation_pass(monkeypatch):
    """All code of own_method.md, its call of the battery included."""
    page = pathlib.Path(__file__).parents[2] / "docs" / "own_method.md"
    monkeypatch.setattr(testing, "split_cpu", lambda: None)  # conftest.py has split it
    scope = {}
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(code, page.name, "exec"), scope)
    assert scope["MagnitudeAndGradient"]() == pruners.get("magnitude_and_gradient")


# ---- planted bugs: the battery must fail ----------------------------------------------------------------------------


class _ByThreshold(pruners.Magnitude):
    """Keeps all ties at the threshold, as many libraries do."""

    def masks(self, weights, gradients, masks, num_pruned):
        result = []
        for w, count in zip(weights, num_pruned, strict=True):
            ordered = ops.sort(ops.abs(ops.reshape(w, (-1,))))
            result.append(ops.cast(ops.abs(w) >= ordered[int(count)], w.dtype))
        return result


class _PrunesTheLargest(pruners.Magnitude):
    """Prunes the largest weights, so that a pruned weight comes back."""

    def score(self, weight, gradient, mask):
        return 1.0 / (ops.abs(weight) + 1.0)


class _LosesOptions(pruners.Magnitude):
    """Loses options when it is saved."""

    def get_config(self):
        return {"granularity": self.granularity}


class _MasksOfOneHalf(pruners.Magnitude):
    """Returns masks of one half instead of one."""

    def masks(self, weights, gradients, masks, num_pruned):
        return [m * 0.5 for m in super().masks(weights, gradients, masks, num_pruned)]


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (_ByThreshold(), testing.check_exact_count_with_ties),
        (_PrunesTheLargest(), testing.check_monotone),
        (_LosesOptions(scope="global"), testing.check_config),
        (_MasksOfOneHalf(), testing.check_exact_count_with_ties),
        (_MasksOfOneHalf(), testing.check_zero_after_every_step),
    ],
    ids=lambda x: getattr(x, "__name__", type(x).__name__),
)
def test_a_bug_of_a_pruner_is_found(broken, check):
    with pytest.raises((AssertionError, TypeError)):
        check(broken)


def test_bugs_of_the_optimizer_are_found(monkeypatch):
    magnitude = pruners.Magnitude()
    with monkeypatch.context() as patch:
        patch.setattr(HardPruning, "apply", lambda self: None)  # as in TFMOT
        with pytest.raises(AssertionError, match="is not zero after a step"):
            testing.check_zero_after_every_step(magnitude)
    with monkeypatch.context() as patch:
        patch.setattr(SparseOptimizer, "load_own_variables", lambda self, store: None)  # the masks are not loaded
        with pytest.raises(AssertionError, match="resumed from a .keras file"):
            testing.check_resume_from_file(magnitude)
    with monkeypatch.context() as patch:
        patch.setattr(MaskState, "mask_averages", lambda self: None)  # neither in a step nor after training
        patch.setattr(SparseOptimizer, "apply_masks", lambda self: None)
        with pytest.raises(UserWarning, match="written the weights after they were pruned"):
            testing.check_moving_average(magnitude)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replicas are TensorFlow's")
def test_replicas_that_diverge_are_found(monkeypatch):
    monkeypatch.setattr(replicas, "global_gradients", list)  # each replica scores its own gradients
    monkeypatch.setattr(replicas, "divide_by_replicas", lambda g: g)
    with pytest.raises(AssertionError, match="two replicas instead of one device"):
        testing.check_two_replicas_agree(pruners.Saliency())
