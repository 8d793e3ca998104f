"""Batteries of checks: for pruners, yours included, and for methods.

Each check is a function that trains a small model and raises AssertionError if a promise is broken.

Examples:
    >>> tfsparse.testing.check_pruner(MyPruner())                                     # all checks
    >>> @pytest.mark.parametrize("check", tfsparse.testing.checks(), ids=lambda check: check.__name__)
    ... def test_my_pruner(check):                                                     # each check as a test
    ...     check(MyPruner())
"""

from tfsparse import methods
from tfsparse.testing.devices import check_stateless_apply, check_two_replicas_agree, split_cpu, two_cpu_strategy
from tfsparse.testing.fixtures import small_data, small_model
from tfsparse.testing.outside_training import check_config, check_exact_count_with_ties, check_monotone
from tfsparse.testing.registry import check_pruner, checks
from tfsparse.testing.training import (
    check_exclusion_and_overrides,
    check_execution_modes_agree,
    check_export,
    check_gradient_accumulation,
    check_masks_are_traced_once,
    check_mixed_precision,
    check_moving_average,
    check_resume_from_backup,
    check_resume_from_file,
    check_resume_from_tf_checkpoint,
    check_weights_load_into_plain_model,
    check_zero_after_every_step,
)

__all__ = [
    "check_config",
    "check_exact_count_with_ties",
    "check_exclusion_and_overrides",
    "check_execution_modes_agree",
    "check_export",
    "check_gradient_accumulation",
    "check_masks_are_traced_once",
    "check_mixed_precision",
    "check_monotone",
    "check_moving_average",
    "check_pruner",
    "check_resume_from_backup",
    "check_resume_from_file",
    "check_resume_from_tf_checkpoint",
    "check_stateless_apply",
    "check_two_replicas_agree",
    "check_weights_load_into_plain_model",
    "check_zero_after_every_step",
    "checks",
    "small_data",
    "small_model",
    "split_cpu",
    "two_cpu_strategy",
]

for _module in methods.modules_in("tfsparse.testing.methods").values():  # check_thresholds
    globals().update({name: getattr(_module, name) for name in _module.__all__})
    __all__ += _module.__all__
