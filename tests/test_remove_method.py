"""Every method can be removed: its folder and its line. `python tests/remove_method.py METHOD` runs all other tests."""

import pytest
import remove_method

from tfsparse import methods


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", methods.names())
def test_without_a_method_the_others_work(method):
    chosen = ["test_architecture.py", "callbacks/test_prune_core.py", "tfmot/test_init.py"]
    assert remove_method.main(method, ["-q", *(f"tests/{file}" for file in chosen)]) == 0
