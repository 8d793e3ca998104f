"""What the commands of `tfsparse` do: thin functions over the package and the laboratory.

Their arguments, options and help are in `tfsparse_command`, which imports this module when a command runs.
"""

import contextlib
import functools
import re
import shlex
import sys
from pathlib import Path

import keras
import tensorflow as tf
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tfsparse.backend import files, run_directory, run_record
from tfsparse.backend.extras import require
from tfsparse.backend.tables import Column, make_table, printable
from tfsparse.doctor.diagnosis import doctor as make_diagnosis
from tfsparse.doctor.planning import plan as make_plan
from tfsparse.experiments import config as configs
from tfsparse.experiments import experiment, migration, plots, run_frontier
from tfsparse.experiments import matrix as comparisons
from tfsparse.experiments.differences import paired
from tfsparse.export.saved_model import export as export_saved_model
from tfsparse.export.tflite import export_tflite
from tfsparse.reporting import page
from tfsparse.reporting.report import report as make_report

# A log file has no width to keep to. Names are shown as they are: they are neither markup nor emoji.
console = Console(width=None if sys.stdout.isatty() else 180, markup=False, emoji=False)

_TABLE_TITLE = "accuracy: validation, mean ± sample standard deviation over seeds"
_TABLE_CAPTION = (
    "to the best: accuracy minus that of the most accurate method of the same target, with the same seeds; "
    "mean ± half of the 95 % t interval; ~: may be chance"
)


def _one_line_errors(command):
    """Print mistakes of the user as one message, with exit code 2. Other errors are bugs and keep their traceback."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:  # `| head` has read enough
            raise
        except (ValueError, OSError, MemoryError, tf.errors.OpError) as error:
            _say(f"Error: {_reason(error)}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            _say("Interrupted.", err=True)
            raise typer.Exit(130) from None

    return wrapped


def _reason(error):
    """Return the message of an error; of TensorFlow's the sentence without the place in its graph."""
    if not isinstance(error, tf.errors.OpError):
        return str(error) or type(error).__name__
    places = re.compile(r"\s|$|Graph execution error|Detected at |\d+ root error")
    sentences = [line for line in error.message.splitlines() if not places.match(line)] or [type(error).__name__]
    return re.sub(r"^\{\{.*?\}\} | \[Op:.*", "", sentences[0])


def _say(text, err=False):
    """Print a line, with its control characters escaped."""
    typer.echo(printable(text), err=err)


@_one_line_errors
def train(config: Path | None, overrides: list[str] | None, out: Path | None, resume: bool, overwrite: bool):
    """Train a config, dense or sparse, into a run directory."""
    if resume and overwrite:
        raise ValueError("--resume continues a run and --overwrite replaces it; pass only one of them.")
    run_config = _config(config, overrides or [], out if resume else None)
    directory = out or Path("runs", run_config.name)

    try:
        with _progress(run_config.epochs) as progress:
            run = experiment.train(run_config, directory, resume, overwrite, callbacks=[progress])
    except KeyboardInterrupt:
        _say(_interrupted(directory), err=True)
        raise typer.Exit(130) from None
    console.print(make_report(run_directory.read_model(directory / "model.keras")))
    _print_summary(run, directory)


@_one_line_errors
def matrix(file: Path, overrides: list[str] | None, out: Path | None, plot: Path | None, overwrite: bool):
    """Train every method, sparsity and seed of a comparison. Finished runs are kept, interrupted ones are resumed."""
    planned, directory = comparisons.load(file, overrides or []), out or Path("runs", file.stem)
    plot = plot or directory / "comparison.png"
    plots.check_target(plot, overwrite)
    names = {name: f"{number}/{len(planned)} {name}" for number, name in enumerate(planned, start=1)}
    with _progress(next(iter(planned.values())).epochs) as progress:
        runs = comparisons.train(
            planned, directory, [progress], lambda name: console.print(printable(names[name]), highlight=False)
        )
    console.print(_table(plots.groups(runs.values())))
    plots.save(plots.comparison(runs.values()), plot, overwrite)
    _say(f"Plot: {plot}")


@_one_line_errors
def compare(directories: list[Path], out: Path | None, overwrite: bool):
    """Print finished runs in a table, with means over seeds, and plot them."""
    runs = {directory: run_record.read(directory) for directory in directories}
    for directory, run in runs.items():
        if run["status"] != "finished":
            raise ValueError(f"{directory} is not finished; run first: {_resume_command(directory)}")
    console.print(_table(plots.groups(runs.values())))
    if out:
        plots.save(plots.comparison(runs.values()), out, overwrite)
        _say(f"Plot: {out}")


@_one_line_errors
def report(file: Path, html: Path | None, dense: Path | None, overwrite: bool):
    """Print the target and the actual sparsity of each weight of a saved model, or write an HTML page."""
    if html:
        files.check_target(html, overwrite)
        page.write(file, html, overwrite, _milliseconds(file), dense)
        _say(f"Page: {html}")
        return
    console.print(make_report(run_directory.read_model(file)))


def _milliseconds(file):
    """Return how long a model takes in TFLite, dense and sparse; nothing if that cannot be measured."""
    if file.is_dir() and not (file / "model.keras").is_file():  # of a run that is not finished
        return []
    with contextlib.suppress(ValueError):  # the page says itself what is wrong with a file
        measurement = make_diagnosis(file).measurement
        if measurement is not None and measurement.speedup is not None:
            return [("TFLite", *(cost.milliseconds.median for cost in measurement.costs))]
    return []


@_one_line_errors
def export(file: Path, out: Path, values: str, dense: bool, representative: Path | None):
    """Export a saved model as a SavedModel, or as a TFLite file if OUT ends in .tflite. Zeros take few bytes."""
    _check_export(out, values, dense, representative)

    columns = (TextColumn("{task.description}", markup=False), BarColumn(20), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"Exporting {printable(str(file))}", total=None)
        model = run_directory.read_model(file)
        if out.suffix.lower() == ".tflite":
            console.print(export_tflite(model, out, values, representative))
        else:
            written = export_saved_model(
                model, out, values, dense, lambda done, total: bar.update(task, completed=done, total=total)
            )
            _say(f"SavedModel: {written}")


@_one_line_errors
def doctor(model: Path, target: str, measure: bool):
    """Explain for each weight why its zeros do not make MODEL smaller or faster, and what to train instead."""
    console.print(make_diagnosis(model, target, measure))


@_one_line_errors
def plan(model: Path, target: str, sparsity: float, out: Path | None, overwrite: bool):
    """Choose for each weight the pattern of zeros that pays on a target, and write a config for `tfsparse train`."""
    if out:
        files.check_target(out, overwrite)
    chosen = make_plan(model, target, sparsity)
    console.print(chosen)
    if out:
        chosen.write(out, overwrite)
        _say(f"Config: {out}")


@_one_line_errors
def frontier(directory: Path, target: str, drop: float, measure: bool, out: Path | None, overwrite: bool):
    """Show how sparse the network of a run can be: accuracy, bytes and milliseconds; kept for its page."""
    if out:
        plots.check_target(out, overwrite)
    result = run_frontier.measure(directory, target, measure)
    run_frontier.record(directory, result)
    console.print(result)
    _say(f"The sparsest that costs at most {drop:g} of {result.metric}: {result.knee(drop):g}")
    if out:
        plots.save(result.plot(drop), out, overwrite)
        _say(f"Plot: {out}")


@_one_line_errors
def migrate(script: Path, check: bool):
    """Print a diff to the calls of `tfsparse.tfmot`; remarks go to the error output, so that `patch` can read it."""
    translation = migration.translate_file(script)
    typer.echo(translation.diff(str(script)), nl=False)
    for line, text in translation.remarks:
        _say(f"{script}:{line}: {text}", err=True)
    for line, text in translation.refused:
        _say(f"{script}:{line}: Not translated: {text}.", err=True)
    differences = _check_models(translation, str(script)) if check else []
    for text in differences:
        _say(f"Different: {text}", err=True)
    if translation.refused or differences:
        raise typer.Exit(1)


def _check_models(translation, script):
    """Print what is equal, and return what differs, between the models of a script before and after."""
    script_models = require("tfsparse.tfmot.script_models", "tfmot")
    before = script_models.models_of(translation.source, script)
    after = script_models.models_of(translation.translated, script)
    differences = script_models.differences(before, after)
    if not differences:
        _say(f"Equal before and after: {script_models.summary(before)}", err=True)
    return differences


def _check_export(out, values, dense, representative):
    """Check that the options are those of the kind of file."""
    is_tflite = out.suffix.lower() == ".tflite"
    if is_tflite and dense:
        raise ValueError(f"--dense is for a SavedModel: remove it, or write another name than {out}.")
    if not is_tflite and representative:
        raise ValueError(f"--representative is for a TFLite file: remove it, or write {out}.tflite.")
    if is_tflite and values == "int8" and not representative:
        raise ValueError(
            "--values int8 needs inputs to measure the range of activations: write some of the training inputs with "
            'numpy.save("examples.npy", x[:200]), and add --representative examples.npy.'
        )


def _config(path, overrides, resumed):
    if resumed and not path:
        return configs.validate(run_record.read(resumed)["config"], overrides, source=str(resumed / "run.json"))
    return configs.load(path or configs.QUICK_START, overrides)


@contextlib.contextmanager
def _progress(epochs):
    """Yield a Keras callback that updates one line on a terminal, with the time left of all epochs.

    Elsewhere it prints a line per epoch.
    """
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("building", total=None)
        texts, first_step = {}, 0

        def at_train_begin(logs):
            bar.reset(task)

        def at_epoch_begin(epoch, logs):
            nonlocal first_step
            texts["epoch"], steps = f"epoch {epoch + 1}/{epochs}", callback.params["steps"]
            first_step = epoch * (steps or 0)
            bar.update(task, total=epochs * steps if steps else None, completed=first_step)

        def after_batch(step, logs):
            bar.update(task, completed=first_step + step + 1, description=_line(texts, logs))

        def at_epoch_end(epoch, logs):
            line = _line(texts, logs)
            bar.update(task, description=line)
            if not console.is_terminal:
                _say(line)

        callback = keras.callbacks.LambdaCallback(
            on_train_begin=at_train_begin,
            on_epoch_begin=at_epoch_begin,
            on_train_batch_end=after_batch,
            on_epoch_end=at_epoch_end,
        )
        yield callback


def _line(texts, logs):
    """Return the epoch and the newest metrics. Validation and sparsity are shown until there are newer ones."""
    names = {"loss": "loss", "accuracy": "accuracy", "val_accuracy": "validation"}
    names |= {"sparsity": "sparsity", "density": "density"}
    texts |= {key: f"{name} {logs[key]:.4f}" for key, name in names.items() if key in (logs or {})}
    return "  ".join(texts.values())


def _print_summary(run, directory):
    summary = run["summary"]
    _say(
        f"{summary['method']}: accuracy {summary['accuracy']:.4f} at sparsity {summary['sparsity']:.4f} "
        f"(target {_target(summary['asked_sparsity'])}), {summary['seconds']:.0f} s of training"
    )
    for path in sorted(directory.iterdir()):
        _say(f"  {path}{'/' * path.is_dir()}")


def _resume_command(directory):
    return f"tfsparse train --resume --out {shlex.quote(str(directory))}"


def _interrupted(directory):
    if not (directory / "run.json").is_file():
        return "Interrupted before training began; nothing was written."
    return f"Interrupted. Continue with: {_resume_command(directory)}"


def _table(groups):
    best = plots.best_of(groups)
    numbers = {
        "target": lambda group: _target(group.target_sparsity),
        "sparsity": lambda group: f"{group.mean('sparsity'):.4f}",
        "seeds": lambda group: len(group.runs),
        "accuracy": lambda group: _accuracy(group, "accuracy"),
        "to the best": lambda group: _behind(group, best[group.setting]),
        "best": lambda group: _accuracy(group, "best_accuracy"),
        "seconds": lambda group: f"{group.mean('seconds'):.0f}",
    }
    columns = [Column(title, value, justify="right") for title, value in numbers.items()]
    return make_table(["data", "model", "method", *columns], groups, title=_TABLE_TITLE, caption=_TABLE_CAPTION)


def _accuracy(group, key):
    return f"{group.mean(key):.4f}" + (f" ± {group.deviation(key):.4f}" if len(group.runs) > 1 else "")


def _behind(group, best):
    """Return the difference to the most accurate method of the same target; nothing for that method itself."""
    if group is best:
        return ""
    difference = paired(group.by_seed("accuracy"), best.by_seed("accuracy"))
    return "no common seed" if difference is None else difference.marked()


def _target(sparsity):
    return "none" if sparsity is None else f"{sparsity:g}"
