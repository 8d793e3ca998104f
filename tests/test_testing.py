"""The battery over the registered pruners, and planted bugs that must turn it red."""

import keras
import pytest
from keras import ops

from tfsparse import pruners, testing

CHECKS = testing.checks()


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", pruners.names())
def test_registered(name, check):
    check(pruners.get(name))


@pytest.mark.parametrize(
    "options",
    [
        {"scope": "global"},
        {"granularity": "channel"},
        {"granularity": (1, 4)},
        {"granularity": "2:4"},
        {"granularity": "channel", "scope": "global"},
        {"allocation": "erk"},
    ],
    ids=str,
)
def test_granularities_and_scopes(options):
    pruner = pruners.Magnitude(**options)
    testing.check_config(pruner)
    testing.check_exact_count_with_ties(pruner)
    testing.check_monotone(pruner)
    if options != {"allocation": "erk"}:
        testing.check_zero_after_every_step(pruner)
    testing.check_engines_agree(pruner)
    testing.check_export(pruner)
