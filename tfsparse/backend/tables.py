"""Results that print themselves as a table, and the columns of such tables."""

import abc
import dataclasses
import html
import json
from collections.abc import Callable, Iterable


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        title: Its heading.
        value: Name of an attribute of a row, or a function of a row. Default: the attribute of the name `title`.
        text: Function that returns the text of a value. Default: str.
        justify: "left" or "right". Default: "left".

    Examples:
        >>> Column("of", "size", count, "right")
    """

    title: str
    value: str | Callable = ""
    text: Callable[[object], str] = str
    justify: str = "left"

    def cell(self, row) -> str:
        """Return the text of this column for a row."""
        return self.text(self.value(row) if callable(self.value) else getattr(row, self.value or self.title))


def make_table(columns: Iterable[Column | str], rows: Iterable, **options):
    """Return a `rich.table.Table` with a line for each row.

    Args:
        columns: The columns, from left to right. A string is the name of an attribute that is shown as it is.
        rows: Any objects that the columns have a text for.
        **options: Arguments of `rich.table.Table`, such as `title` and `caption`.

    Returns:
        The table. Names are shown as they are: nothing in them is taken for markup or for a command to a terminal.
    """
    from rich.table import Table
    from rich.text import Text

    for name in {"title", "caption"} & options.keys():
        options[name] = Text(printable(options[name]), style=f"table.{name}")
    table = Table(**options)
    columns = [column if isinstance(column, Column) else Column(column) for column in columns]
    for column in columns:
        table.add_column(column.title, justify=column.justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(column.cell(row)))) for column in columns))
    return table


def printable(text: str) -> str:
    r"""Return a text that a terminal shows and does not obey: other control characters than a new line are escaped.

    Examples:
        >>> printable("conv\x1b[2J")
        'conv\\x1b[2J'
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def count(value: int | None) -> str:
    """Return `1,234`, or `-` for None."""
    return "-" if value is None else f"{value:,}"


def percent(value: float) -> str:
    """Return `12.3%` for 0.123."""
    return f"{value:.1%}"


def shape(value: tuple[int, ...]) -> str:
    """Return `3x3x16` for (3, 3, 16)."""
    return "x".join(map(str, value))


class Printed(abc.ABC):
    """Base of dataclasses that show themselves as a table: what `print` writes, a prompt and a notebook show, too.

    A function that returns one prints nothing. Subclasses are `dataclass(repr=False)`.

    Attributes:
        width: Characters per line of plain text.
    """

    width = 110

    @abc.abstractmethod
    def table(self):
        """Return a `rich.table.Table`."""

    def as_dict(self) -> dict:
        """Return all fields as a dict that JSON can store."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))

    def __rich__(self):
        return self.table()

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=self.width, force_terminal=False, force_jupyter=False, markup=False, emoji=False)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        style = "font-family: monospace; line-height: normal; overflow-x: auto; white-space: pre"
        return f'<pre style="{style}">{html.escape(str(self))}</pre>'
