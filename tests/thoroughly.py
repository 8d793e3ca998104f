"""Cases that repeat what others of the same test show: left out of the suite, run by CI after it (`-m exhaustive`)."""

import pytest


def also(cases):
    """Further values of one parameter."""
    return [pytest.param(case, marks=pytest.mark.exhaustive) for case in cases]
