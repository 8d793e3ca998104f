"""The commands of `tfsparse`: thin functions over the package and the laboratory."""

import contextlib
import functools
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import keras
import tensorflow as tf
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer import Argument, Option

from tfsparse.backend import files, run_directory, run_record
from tfsparse.backend.tables import Column, make_table, printable
from tfsparse.doctor.diagnosis import doctor as make_diagnosis
from tfsparse.doctor.planning import plan as make_plan
from tfsparse.experiments import config as configs
from tfsparse.experiments import experiment, plots, run_frontier
from tfsparse.experiments import matrix as comparisons
from tfsparse.export.saved_model import export as export_saved_model
from tfsparse.export.tflite import export_tflite
from tfsparse.reporting import page
from tfsparse.reporting.report import report as make_report
from tfsparse.version import __version__

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
# A log file has no width to keep to. Names are shown as they are: they are neither markup nor emoji.
console = Console(width=None if sys.stdout.isatty() else 140, markup=False, emoji=False)

Config = Annotated[Path | None, Argument(help="YAML file. Default: digits, 90 % sparse.")]
Overrides = Annotated[list[str] | None, Option("--set", metavar="KEY=VALUE", help="Change a key: prune.sparsity=0.95.")]
OutDir = Annotated[Path | None, Option(metavar="DIR", help="Run directory. Default: runs/<name>.")]
Resume = Annotated[bool, Option("--resume", help="Continue the interrupted run in --out.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace the run in --out.")]
Replace = Annotated[bool, Option("--overwrite", help="Replace the file even if tfsparse did not write it.")]
Runs = Annotated[list[Path], Argument(metavar="DIR...", help="Run directories or run.json files.")]
Comparison = Annotated[Path, Argument(metavar="FILE", help="E.g. configs/comparison/mnist_lenet300.yaml.")]
Plot = Annotated[Path | None, Option(metavar="FILE", help="Plot accuracy against sparsity, e.g. to plot.png.")]
Model = Annotated[Path, Argument(metavar="MODEL", help="A .keras file; with --html also a run directory.")]
Page = Annotated[Path | None, Option(metavar="FILE", help="Write everything to one HTML page, e.g. run.html.")]
AnyModel = Annotated[Path, Argument(metavar="MODEL", help="A .keras or .tflite file, run directory or SavedModel.")]
Exported = Annotated[Path, Argument(metavar="OUT", help="New directory, or a file such as out.tflite.")]
DType = Annotated[str, Option(metavar="DTYPE", help="How weights are stored: float32, float16 or int8.")]
Dense = Annotated[bool, Option("--dense", help="Store the zeros too (SavedModel only).")]
Inputs = Annotated[Path | None, Option(metavar="FILE", help="Inputs for int8 in TFLite: .npy, or .npz by input.")]
ModelOrConfig = Annotated[Path, Argument(metavar="MODEL", help="A .keras file, run directory or config (.yaml).")]
Target = Annotated[str, Option(metavar="NAME", help="tflite-cpu, xnnpack-arm, savedmodel, or any.")]
Measure = Annotated[bool, Option("--measure/--no-measure", help="Measure bytes and seconds on this machine.")]
Sparsity = Annotated[float, Option(help="Fraction of zeros in [0, 1).")]
Run = Annotated[Path, Argument(metavar="DIR", help="Run directory.")]
Drop = Annotated[float, Option(min=0.0, help="Largest drop of accuracy: 0.005 is half a point.")]
PlanFile = Annotated[Path | None, Option(metavar="FILE", help="Write the config, e.g. to plan.yaml.")]
_TABLE_TITLE = "accuracy: validation, mean ± sample standard deviation over seeds"


def run() -> None:
    """Run the command line. Exit code: 0, 2 for a mistake of the user, 130 for Ctrl-C."""
    try:
        app()
    except KeyboardInterrupt:  # outside of a command
        sys.exit(130)


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


def _version(is_requested: bool):
    if is_requested:
        typer.echo(f"tfsparse {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
):
    """Train sparse Keras models, exactly as sparse as requested."""


@app.command()
@_one_line_errors
def train(
    config: Config = None,
    set_: Overrides = None,
    out: OutDir = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
):
    """Train a config, dense or sparse, into a run directory."""
    if resume and overwrite:
        raise ValueError("--resume continues a run and --overwrite replaces it; pass only one of them.")
    run_config = _config(config, set_ or [], out if resume else None)
    directory = out or Path("runs", run_config.name)

    try:
        with _progress(run_config.epochs) as progress:
            run = experiment.train(run_config, directory, resume, overwrite, callbacks=[progress])
    except KeyboardInterrupt:
        _say(_interrupted(directory), err=True)
        raise typer.Exit(130) from None
    console.print(make_report(run_directory.read_model(directory / "model.keras")))
    _print_summary(run, directory)


@app.command()
@_one_line_errors
def matrix(
    file: Comparison, set_: Overrides = None, out: OutDir = None, plot: Plot = None, overwrite: Replace = False
):
    """Train every method, sparsity and seed of a comparison. Finished runs are kept, interrupted ones are resumed."""
    planned, directory = comparisons.load(file, set_ or []), out or Path("runs", file.stem)
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


@app.command()
@_one_line_errors
def compare(directories: Runs, out: Plot = None, overwrite: Replace = False):
    """Print finished runs in a table, with means over seeds, and plot them."""
    runs = {directory: run_record.read(directory) for directory in directories}
    for directory, run in runs.items():
        if run["status"] != "finished":
            raise ValueError(f"{directory} is not finished; run first: {_resume_command(directory)}")
    console.print(_table(plots.groups(runs.values())))
    if out:
        plots.save(plots.comparison(runs.values()), out, overwrite)
        _say(f"Plot: {out}")


@app.command()
@_one_line_errors
def report(file: Model, html: Page = None, overwrite: Replace = False):
    """Print the target and the actual sparsity of each weight of a saved model, or write an HTML page."""
    if html:
        page.write(file, html, overwrite)
        _say(f"Page: {html}")
        return
    console.print(make_report(run_directory.read_model(file)))


@app.command()
@_one_line_errors
def export(file: Model, out: Exported, values: DType = "float32", dense: Dense = False, representative: Inputs = None):
    """Export a saved model as a SavedModel, or as a TFLite file if OUT ends in .tflite. Zeros take few bytes."""
    _check_export(out, values, dense, representative)

    model = run_directory.read_model(file)
    if out.suffix.lower() == ".tflite":
        console.print(export_tflite(model, out, values, representative))
    else:
        _say(f"SavedModel: {export_saved_model(model, out, values, dense)}")


@app.command()
@_one_line_errors
def doctor(model: AnyModel, target: Target = "tflite-cpu", measure: Measure = True):
    """Explain for each weight why its zeros do not make MODEL smaller or faster, and what to train instead."""
    console.print(make_diagnosis(model, target, measure))


@app.command()
@_one_line_errors
def plan(
    model: ModelOrConfig,
    target: Target = "tflite-cpu",
    sparsity: Sparsity = 0.9,
    out: PlanFile = None,
    overwrite: Replace = False,
):
    """Choose for each weight the pattern of zeros that pays on a target, and write a config for `tfsparse train`."""
    if out:
        files.check_target(out, overwrite)
    chosen = make_plan(model, target, sparsity)
    console.print(chosen)
    if out:
        chosen.write(out, overwrite)
        _say(f"Config: {out}")


@app.command()
@_one_line_errors
def frontier(
    directory: Run,
    target: Target = "tflite-cpu",
    drop: Drop = 0.005,
    measure: Measure = True,
    out: Plot = None,
    overwrite: Replace = False,
):
    """Show how sparse the network of a run can be: accuracy, bytes and milliseconds at several sparsities."""
    if out:
        plots.check_target(out, overwrite)
    result = run_frontier.measure(directory, target, measure)
    console.print(result)
    _say(f"The sparsest that costs at most {drop:g} of {result.metric}: {result.knee(drop):g}")
    if out:
        plots.save(result.plot(drop), out, overwrite)
        _say(f"Plot: {out}")


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
    """Yield a Keras callback that updates one line on a terminal, and prints a line per epoch elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("building", total=None)
        texts = {}

        def at_epoch_begin(epoch, logs):
            texts["epoch"] = f"epoch {epoch + 1}/{epochs}"
            bar.reset(task, total=callback.params["steps"])

        def after_batch(step, logs):
            bar.update(task, completed=step + 1, description=_line(texts, logs))

        def at_epoch_end(epoch, logs):
            line = _line(texts, logs)
            bar.update(task, description=line)
            if not console.is_terminal:
                _say(line)

        callback = keras.callbacks.LambdaCallback(
            on_epoch_begin=at_epoch_begin, on_train_batch_end=after_batch, on_epoch_end=at_epoch_end
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
    numbers = {
        "target": lambda group: _target(group.target_sparsity),
        "sparsity": lambda group: f"{group.mean('sparsity'):.4f}",
        "seeds": lambda group: len(group.runs),
        "accuracy": lambda group: _accuracy(group, "accuracy"),
        "best": lambda group: _accuracy(group, "best_accuracy"),
        "seconds": lambda group: f"{group.mean('seconds'):.0f}",
    }
    columns = [Column(title, value, justify="right") for title, value in numbers.items()]
    return make_table(["data", "model", "method", *columns], groups, title=_TABLE_TITLE)


def _accuracy(group, key):
    return f"{group.mean(key):.4f}" + (f" ± {group.deviation(key):.4f}" if len(group.runs) > 1 else "")


def _target(sparsity):
    return "none" if sparsity is None else f"{sparsity:g}"
