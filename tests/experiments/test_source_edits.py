"""Edits of code that keep its line breaks and comments."""

import ast

import pytest

from tfsparse.experiments.source_edits import Edits


def edited(source, edit):
    edits = Edits(source)
    edit(edits, ast.parse(source).body[0])
    return edits.apply()


@pytest.mark.parametrize(
    "source, index, expected",
    [
        ("f(a, b, c)", 0, "f(b, c)"),
        ("f(a, b, c)", 2, "f(a, b)"),
        ("f(a)", 0, "f()"),
        ("f(\n    a,\n    b,\n)", 1, "f(\n    a,\n)"),
        ("f(a,  # first\n  b)", 1, "f(a,  # first\n  )"),
        ("f(a,  # first\n  b)", 0, "f(# first\n  b)"),
    ],
)
def test_an_argument_goes_with_one_comma_and_comments_stay(source, index, expected):
    found = edited(source, lambda edits, statement: edits.remove_argument(statement.value.args[index]))
    assert found == expected and ast.parse(found)


def test_edits_at_one_place_do_not_disturb_each_other():
    def edit(edits, statement):
        edits.replace(statement.value.func, "g")
        edits.wrap(statement.value, "h(", ")")
        edits.append_argument(statement.value, "c=1")

    assert edited("f(ä, (b))  # ö", edit) == "h(g(ä, (b), c=1))  # ö"


def test_lines_are_added_with_the_indentation_of_their_statement_and_removed_whole():
    source = "if x:\n    import a\n    import b\n"

    def edit(edits, statement):
        edits.insert_lines_after(statement.body[0], ["import c"])
        edits.remove_line(statement.body[1])

    assert edited(source, edit) == "if x:\n    import a\n    import c\n"
