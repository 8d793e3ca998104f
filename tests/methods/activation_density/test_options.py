"""The options exist once: the constructor, its signature and its docstring are made from the dataclass."""

import dataclasses
import inspect
import re

import pytest

import tfsparse
from tfsparse.methods.activation_density.options import Options


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rounds": 0}, "rounds=0: expected a whole number of at least 1"),
        ({"window": 2.5}, "window=2.5: expected a whole number"),
        ({"smallest": True}, "smallest=True"),
        ({"min_epochs": 10, "max_epochs": 9}, "max_epochs=9: expected a whole number of at least 10"),
        ({"min_kept": 1.0}, r"min_kept=1.0: expected a number in \[0, 1\)"),
        ({"saturation": -0.1}, "saturation=-0.1: expected a number of at least 0"),
        ({"tolerance": "1"}, "tolerance='1'"),
        ({"prune_epochs": [5, 3]}, r"prune_epochs=\[5, 3\]: expected rising numbers"),
        ({"prune_epochs": []}, "prune_epochs="),
        ({"prune_epochs": 5}, "prune_epochs=5"),
        ({"seed": -1}, "seed=-1"),
        ({"weights": "keep"}, 'weights=\'keep\': expected "inherit" or "reinit"'),
    ],
)
def test_a_value_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_every_option_is_an_argument_with_its_default():
    parameters = inspect.signature(tfsparse.ActivationDensity).parameters
    for field in dataclasses.fields(Options):
        assert parameters[field.name].default == field.default
        assert parameters[field.name].kind == inspect.Parameter.KEYWORD_ONLY


def test_the_docstring_has_a_row_for_every_argument():
    document = inspect.getdoc(tfsparse.ActivationDensity)
    rows = re.search(r"Args:\n((?:    .*\n)+)", document)[1]
    assert re.findall(r"(?m)^    (\w+): ", rows) == list(inspect.signature(tfsparse.ActivationDensity).parameters)
    assert max(map(len, document.splitlines())) <= 120
    for field in dataclasses.fields(Options):
        description, expected = field.metadata["description"], field.metadata["expected"]
        assert f"{description} Expected: {expected}. Default: {field.default!r}." in " ".join(rows.split())


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(TypeError, match="no argument 'smalest': expected some of rounds, .*Did you mean 'smallest'"):
        tfsparse.ActivationDensity(None, smalest=3)
