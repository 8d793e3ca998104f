"""Makes the page of a run directory or of a model file."""

import functools
import os
import pathlib
from collections.abc import Sequence

import keras

from tfsparse.backend import extras, files, run_directory
from tfsparse.backend.run_directory import RunError
from tfsparse.reporting.report import report as report_of
from tfsparse.version import __version__


def write(
    source: str | os.PathLike,
    path: str | os.PathLike,
    overwrite: bool = False,
    milliseconds: Sequence[tuple[str, float, float]] = (),
    dense: str | os.PathLike | None = None,
) -> None:
    """Write the page of a run directory or of a saved model to a file.

    The page of a run that is not finished shows what there is. Nothing on a page is estimated: a figure that was not
    measured is left out. Needs `pip install 'tfsparse[cli]'`.

    Args:
        source: A run directory, or a file that `model.save` wrote.
        path: File to write. A page that tfsparse wrote is replaced.
        overwrite: Whether to replace any other file, too. Default: False.
        milliseconds: How long forms of the model take for one example: name, dense and sparse. Default: (), they are
            left out.
        dense: The directory of a finished run of the same network without pruning, whose accuracy is shown beside.
            Default: None, it is left out.

    Raises:
        RunError: If `source` is neither, or if `dense` is no such run.
        ValueError: If `path` is a directory, or a file that must not be replaced.
        ImportError: If a package of the extra `cli` is missing.

    Examples:
        >>> from tfsparse.reporting import page
        >>> page.write("runs/quickstart", "quickstart.html")
    """
    source, path = pathlib.Path(source), pathlib.Path(path)
    files.check_target(path, overwrite)
    read = extras.require("tfsparse.backend.run_record", "cli").read
    run = read(source) if source.is_dir() else None
    dense_accuracy = None if dense is None else _dense_accuracy(read(dense), dense, run)
    file = source / "model.keras" if source.is_dir() else source
    model = run_directory.read_model(file) if file.is_file() or run is None else None
    files.write_text(path, render(run, model, milliseconds, dense_accuracy), overwrite)


def render(
    run: dict | None = None,
    model: keras.Model | None = None,
    milliseconds: Sequence[tuple[str, float, float]] = (),
    dense_accuracy: float | None = None,
) -> str:
    """Return the page of a run, of a model, or of both.

    Args:
        run: The record of a run: the content of its `run.json`. Default: None.
        model: A built model. Default: None.
        milliseconds: How long forms of the model take for one example: name, dense and sparse. Default: (), they are
            left out.
        dense_accuracy: Accuracy of the same training without pruning. Default: None, it is left out.

    Returns:
        The page as HTML.

    Examples:
        >>> html = page.render(model=model)
    """
    parts = extras.require("tfsparse.reporting.page.parts", "cli")
    report = (run or {}).get("report") or (report_of(model).as_dict() if model else None)
    page_parts = [*parts.of_run(run)] if run else []
    page_parts += parts.of_methods(model) if model else []
    page_parts += parts.of_report(report) if report else []
    of_model = [*parts.of_model(model)] if model else []
    page_parts = sorted(page_parts + of_model, key=lambda part: part.folded)
    tiles = parts.tiles(run, report, *of_model[-1:], milliseconds=milliseconds, dense_accuracy=dense_accuracy)
    names = {"title": _title(run, model), "status": _status(run), "tiles": [*tiles], "parts": page_parts}
    return _template().render(names, version=__version__, generator=files.MARK)


@functools.cache
def _template():
    jinja2 = extras.require("jinja2", "cli")
    text = pathlib.Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return jinja2.Template(
        text, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _title(run, model):
    if run is None:
        return model.name
    summary = run.get("summary")
    return f"{summary['model']} on {summary['data']}: {summary['method']}" if summary else run["name"]


def _status(run):
    if run is None or run["status"] == "finished":
        return ""
    return f"Not finished: {len(run['epochs'])} of {run['config']['epochs']} epochs."


def _dense_accuracy(dense_run, directory, run):
    """Return the accuracy of a dense run, which must be of the network and the data of another run."""
    summary, other = dense_run.get("summary"), (run or {}).get("summary")
    if not summary or summary["sparsity"] > 0:
        raise RunError(f"dense={str(directory)!r} is not a finished run without pruning.")
    if not other or any(summary[key] != other[key] for key in ("model", "data")):
        raise RunError(
            f"dense={str(directory)!r} is a run of {summary['model']} on {summary['data']}: expected the network and "
            "the data of the page, which must be that of a finished run."
        )
    return summary["accuracy"]
