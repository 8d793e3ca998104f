"""Results as plain text and in notebooks."""

import dataclasses

import pytest
from rich.console import Console

import tfsparse  # noqa: F401  all results
from tfsparse.backend.tables import Column, Printed, make_table


@dataclasses.dataclass(frozen=True, repr=False)
class Result(Printed):
    name: str

    def table(self):
        from rich.table import Table

        table = Table("name")
        table.add_row(self.name)
        return table


def test_as_text():
    lines = str(Result("dense")).splitlines()
    assert lines[3] == "│ dense │" and "\x1b" not in str(Result("dense"))


def test_a_prompt_shows_what_print_writes():
    assert repr(Result("dense")) == str(Result("dense"))


def test_every_result_of_the_package_does_so():
    results = {cls for cls in Printed.__subclasses__() if cls.__module__.startswith("tfsparse.")}
    assert {"Report", "Sizes", "Diagnosis"} <= {cls.__name__ for cls in results}
    assert not [cls.__name__ for cls in results if cls.__repr__ is not Printed.__repr__]


def test_a_notebook_shows_the_text_with_nothing_taken_for_html():
    shown = Result("a<b")._repr_html_()
    assert shown.startswith("<pre") and "│ a&lt;b  │" in shown


def test_width_is_that_of_the_text():
    class Narrow(Result):
        width = 20

    assert max(map(len, str(Narrow("x" * 60)).splitlines())) == 20


NAMES = {
    "x[/red]": "x[/red]",  # rich's markup: the end of a style that has not begun
    "[bold]x[/bold] :bug:": "[bold]x[/bold] :bug:",
    "x\x1b[2J\x1b]0;mine\x07": r"x\x1b[2J\x1b]0;mine\x07",  # clears the screen and renames the window
    "x\rgood": r"x\rgood",
    "\u202eevil": r"\u202eevil",  # turns the direction of writing round
    "x\ud800": r"x\ud800",  # half of a pair, which no file can hold
}


@pytest.mark.parametrize("name, shown", NAMES.items(), ids=range(len(NAMES)))
@pytest.mark.parametrize("is_terminal", [True, False])
def test_names_are_shown_and_never_obeyed(name, shown, is_terminal):
    table = make_table([Column("name", lambda row: row)], [name], title=f"1 {name}", caption=f"2 {name}")
    console = Console(width=80, force_terminal=is_terminal, color_system=None)
    with console.capture() as capture:
        console.print(table)
    text = capture.get()
    assert all(part in text for part in (f"│ {shown}", f"1 {shown}", f"2 {shown}"))
    assert all(character.isprintable() or character == "\n" for character in text)


def test_a_table_that_prints_itself_shows_markup_as_text():
    assert "│ x[/red] │" in str(Result("x[/red]"))
