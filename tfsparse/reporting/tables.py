"""Results that print themselves as a table."""

import abc
import html


class Printed(abc.ABC):
    """What has a `table()`, for `print`, rich and notebooks; `width` is that of plain text, in characters."""

    width = 110

    @abc.abstractmethod
    def table(self):
        """A `rich.table.Table`."""

    def __rich__(self):
        return self.table()

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=self.width, force_terminal=False, force_jupyter=False)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get()

    def _repr_html_(self) -> str:
        return f'<pre style="line-height: normal">{html.escape(str(self))}</pre>'
