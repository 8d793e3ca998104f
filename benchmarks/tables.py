"""Figures from the runs on disk to the pages of the documentation; for the benchmarks of this folder."""

import pathlib
import statistics
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = ROOT / "configs" / "comparison"  # of matrices of trainings


def write(page: str, name: str, table: str) -> None:
    """Put a table between its markers, `<!-- table: name -->` and `<!-- end: name -->`, in a page of the project."""
    path = ROOT / page
    head, found, rest = path.read_text(encoding="utf-8").partition(f"<!-- table: {name} -->\n")
    if not found:
        raise ValueError(f"{page} has no place for it: add lines <!-- table: {name} --> and <!-- end: {name} -->.")
    _, _, tail = rest.rpartition(f"<!-- end: {name} -->\n")
    marked = f"<!-- table: {name} -->\n{table}\n<!-- end: {name} -->\n"
    path.write_text(head + marked + tail, encoding="utf-8")


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: titles, then rows of as many cells."""
    head, *lines = (f"| {' | '.join(cells)} |" for cells in (titles, *rows))
    return "\n".join([head, "|---" * len(titles) + "|", *lines])


def mean(values: Sequence[float]) -> str:
    """Mean and, of several, sample standard deviation: `98.27 ± 0.11`."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"
