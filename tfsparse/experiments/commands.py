"""The commands of `tfsparse`: thin functions over the package and the laboratory."""

import contextlib
import functools
import pathlib
import shlex
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(width=None if sys.stdout.isatty() else 140)  # a log file has no width to keep to

ConfigFile = Annotated[pathlib.Path | None, typer.Argument(help="YAML file. Default: digits, 90 % sparse.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. prune.sparsity=0.95.")
]
RunDirectory = Annotated[pathlib.Path | None, typer.Option(metavar="DIR", help="Run directory. Default: runs/<name>.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in --out.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")]
Directories = Annotated[list[pathlib.Path], typer.Argument(metavar="DIR...", help="Run directories or run.json files.")]
Comparison = Annotated[
    pathlib.Path, typer.Argument(metavar="FILE", help="Comparison, e.g. configs/comparison/mnist_lenet300.yaml.")
]
Plot = Annotated[
    pathlib.Path | None, typer.Option(metavar="FILE", help="Plot accuracy against sparsity, e.g. to plot.png.")
]
Model = Annotated[
    pathlib.Path, typer.Argument(metavar="MODEL", help="A .keras file; with --html also a run directory.")
]
Page = Annotated[
    pathlib.Path | None, typer.Option(metavar="FILE", help="Write everything to one HTML page, e.g. run.html.")
]
AnyModel = Annotated[
    pathlib.Path, typer.Argument(metavar="MODEL", help="A .keras or .tflite file, run directory or SavedModel.")
]
Exported = Annotated[pathlib.Path, typer.Argument(metavar="OUT", help="New directory, or a file such as out.tflite.")]
DType = Annotated[str, typer.Option(metavar="DTYPE", help="How weights are stored: float32, float16 or int8.")]
Dense = Annotated[bool, typer.Option("--dense", help="Store the zeros too (SavedModel only).")]
Examples = Annotated[
    pathlib.Path | None,
    typer.Option(metavar="FILE", help="Inputs for int8 in TFLite: .npy, or .npz with an array per input."),
]
ModelOrConfig = Annotated[
    pathlib.Path, typer.Argument(metavar="MODEL", help="A .keras file, run directory or config (.yaml).")
]
Target = Annotated[str, typer.Option(metavar="NAME", help="tflite-cpu, xnnpack-arm, savedmodel, or any.")]
Measure = Annotated[bool, typer.Option("--measure/--no-measure", help="Measure bytes and seconds on this machine.")]
Sparsity = Annotated[float, typer.Option(help="Fraction of zeros in [0, 1).")]
PlanFile = Annotated[pathlib.Path | None, typer.Option(metavar="FILE", help="Write the config, e.g. to plan.yaml.")]


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
        except (ValueError, OSError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(130) from None

    return wrapped


def _version(is_requested: bool):
    if is_requested:
        from tfsparse.version import __version__

        typer.echo(f"tfsparse {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
):
    """Train sparse Keras models, exactly as sparse as requested."""


@app.command()
@_one_line_errors
def train(
    config: ConfigFile = None,
    set_: Overrides = None,
    out: RunDirectory = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
):
    """Train a config, dense or sparse, into a run directory."""
    if resume and overwrite:
        raise ValueError("--resume continues a run and --overwrite replaces it; pass only one of them.")
    run_config = _config(config, set_ or [], out if resume else None)
    directory = out or pathlib.Path("runs", run_config.name)
    from tfsparse.backend import run_directory
    from tfsparse.experiments import experiment
    from tfsparse.reporting.report import report as report_of

    try:
        with _progress(run_config.epochs) as progress:
            run = experiment.train(run_config, directory, resume, overwrite, callbacks=[progress])
    except KeyboardInterrupt:
        typer.echo(_interrupted(directory), err=True)
        raise typer.Exit(130) from None
    console.print(report_of(run_directory.read_model(directory / "model.keras")))
    _print_summary(run, directory)


@app.command()
@_one_line_errors
def matrix(file: Comparison, set_: Overrides = None, out: RunDirectory = None, plot: Plot = None):
    """Train every method, sparsity and seed of a comparison. Finished runs are kept, interrupted ones are resumed."""
    from tfsparse.experiments import matrix as comparison
    from tfsparse.experiments import plots

    configs, directory = comparison.load(file, set_ or []), out or pathlib.Path("runs", file.stem)
    names = {name: f"{number}/{len(configs)}" for number, name in enumerate(configs, start=1)}
    with _progress(next(iter(configs.values())).epochs) as progress:
        runs = comparison.train(
            configs, directory, [progress], lambda name: console.print(names[name], name, highlight=False)
        )
    console.print(_table(plots.groups(runs.values())))
    plots.save(plots.comparison(runs.values()), plot or directory / "comparison.png")
    typer.echo(f"Plot: {plot or directory / 'comparison.png'}")


@app.command()
@_one_line_errors
def compare(directories: Directories, out: Plot = None):
    """Print finished runs in a table, with means over seeds, and plot them."""
    from tfsparse.backend import run_directory
    from tfsparse.experiments import plots

    runs = {directory: run_directory.read(directory) for directory in directories}
    for directory, run in runs.items():
        if run["status"] != "finished":
            raise ValueError(f"{directory} is not finished; run first: {_resume_command(directory)}")
    console.print(_table(plots.groups(runs.values())))
    if out:
        plots.save(plots.comparison(runs.values()), out)
        typer.echo(f"Plot: {out}")


@app.command()
@_one_line_errors
def report(file: Model, html: Page = None):
    """Print the target and the actual sparsity of each weight of a saved model, or write an HTML page."""
    from tfsparse.backend import run_directory
    from tfsparse.reporting import page
    from tfsparse.reporting.report import report as report_of

    if html:
        page.write(file, html)
        typer.echo(f"Page: {html}")
        return
    console.print(report_of(run_directory.read_model(file)))


@app.command()
@_one_line_errors
def export(
    file: Model, out: Exported, values: DType = "float32", dense: Dense = False, representative: Examples = None
):
    """Export a saved model as a SavedModel, or as a TFLite file if OUT ends in .tflite. Zeros take few bytes."""
    _check_export(out, values, dense, representative)
    from tfsparse.backend import run_directory
    from tfsparse.export.saved_model import export as export_saved_model
    from tfsparse.export.tflite import export_tflite

    model = run_directory.read_model(file)
    if out.suffix == ".tflite":
        console.print(export_tflite(model, out, values, representative))
    else:
        typer.echo(f"SavedModel: {export_saved_model(model, out, values, dense)}")


@app.command()
@_one_line_errors
def doctor(model: AnyModel, target: Target = "tflite-cpu", measure: Measure = True):
    """Explain for each weight why its zeros do not make MODEL smaller or faster, and what to train instead."""
    from tfsparse.doctor.diagnosis import doctor as diagnosis_of

    console.print(diagnosis_of(model, target, measure))


@app.command()
@_one_line_errors
def plan(model: ModelOrConfig, target: Target = "tflite-cpu", sparsity: Sparsity = 0.9, out: PlanFile = None):
    """Choose for each weight the pattern of zeros that pays on a target, and write a config for `tfsparse train`."""
    from tfsparse.doctor.planning import plan as plan_of

    chosen = plan_of(model, target, sparsity)
    console.print(chosen)
    if out:
        chosen.write(out)
        typer.echo(f"Config: {out}")


def _check_export(out, values, dense, representative):
    """Check that the options are those of the kind of file."""
    if out.suffix == ".tflite" and dense:
        raise ValueError(f"--dense is for a SavedModel: remove it, or write another name than {out}.")
    if out.suffix != ".tflite" and representative:
        raise ValueError(f"--representative is for a TFLite file: remove it, or write {out}.tflite.")
    if out.suffix == ".tflite" and values == "int8" and not representative:
        raise ValueError(
            "--values int8 needs inputs to measure the range of activations: write some of the training inputs with "
            'numpy.save("examples.npy", x[:200]), and add --representative examples.npy.'
        )


def _config(path, overrides, resumed):
    from tfsparse.backend import run_directory
    from tfsparse.experiments import config

    if resumed and not path:
        return config.validate(run_directory.read(resumed)["config"], overrides, source=str(resumed / "run.json"))
    return config.load(path or config.QUICK_START, overrides)


@contextlib.contextmanager
def _progress(epochs):
    """Yield a Keras callback that updates one line on a terminal, and prints a line per epoch elsewhere."""
    import keras

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
                console.print(line, highlight=False)

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
    console.print(
        f"{summary['method']}: accuracy {summary['accuracy']:.4f} at sparsity {summary['sparsity']:.4f} "
        f"(target {_target(summary['asked_sparsity'])}), {summary['seconds']:.0f} s of training",
        highlight=False,
    )
    for path in sorted(directory.iterdir()):
        console.print(f"  {path}{'/' * path.is_dir()}", highlight=False, soft_wrap=True)


def _resume_command(directory):
    return f"tfsparse train --resume --out {shlex.quote(str(directory))}"


def _interrupted(directory):
    if not (directory / "run.json").is_file():
        return "Interrupted before training began; nothing was written."
    return f"Interrupted. Continue with: {_resume_command(directory)}"


def _table(groups):
    table = Table(title="accuracy: validation, mean ± sample standard deviation over seeds")
    for name in ("data", "model", "method"):
        table.add_column(name)
    for name in ("target", "sparsity", "seeds", "accuracy", "best", "seconds"):
        table.add_column(name, justify="right")
    for group in groups:
        several = len(group.runs) > 1
        accuracy, best = (
            f"{group.mean(key):.4f}" + (f" ± {group.deviation(key):.4f}" if several else "")
            for key in ("accuracy", "best_accuracy")
        )
        numbers = (
            _target(group.target_sparsity),
            f"{group.mean('sparsity'):.4f}",
            str(len(group.runs)),
            accuracy,
            best,
        )
        table.add_row(group.data, group.model, group.method, *numbers, f"{group.mean('seconds'):.0f}")
    return table


def _target(sparsity):
    return "none" if sparsity is None else f"{sparsity:g}"
