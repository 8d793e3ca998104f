"""Results as plain text and in notebooks."""

import dataclasses

from tfsparse.backend.tables import Printed


@dataclasses.dataclass(frozen=True)
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


def test_a_notebook_shows_the_text_with_nothing_taken_for_html():
    shown = Result("a<b")._repr_html_()
    assert shown.startswith("<pre") and "│ a&lt;b  │" in shown


def test_width_is_that_of_the_text():
    class Narrow(Result):
        width = 20

    assert max(map(len, str(Narrow("x" * 60)).splitlines())) == 20
