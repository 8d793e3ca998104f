"""The commands of `tfsparse`: their arguments, options and help. What they do is in `tfsparse.experiments.commands`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from tfsparse_command.package import load_commands

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, context_settings={"max_content_width": 100})

Config = Annotated[Path | None, Argument(help="YAML file. Default: digits, 90 % sparse.")]
Overrides = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. prune.sparsity=0.95.")
]
OutDir = Annotated[Path | None, Option(metavar="DIR", help="Run directory to write. Default: runs/<name>.")]
Resume = Annotated[bool, Option("--resume", help="Continue the interrupted run in --out.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace the run in --out.")]
Replace = Annotated[bool, Option("--overwrite", help="Replace the file, also if tfsparse did not write it.")]
Runs = Annotated[list[Path], Argument(metavar="DIR...", help="Run directories or run.json files.")]
Comparison = Annotated[
    Path, Argument(metavar="FILE", help="YAML file of a comparison, e.g. configs/comparison/mnist_lenet300.yaml.")
]
Plot = Annotated[Path | None, Option(metavar="FILE", help="Write a plot of accuracy against sparsity, e.g. plot.png.")]
Model = Annotated[Path, Argument(metavar="MODEL", help="A .keras file; with --html also a run directory.")]
Page = Annotated[Path | None, Option(metavar="FILE", help="Write one HTML page with everything, e.g. run.html.")]
DenseRun = Annotated[
    Path | None,
    Option("--dense", metavar="DIR", help="With --html: a run without pruning, whose accuracy stands beside."),
]
AnyModel = Annotated[Path, Argument(metavar="MODEL", help="A .keras or .tflite file, run directory or SavedModel.")]
Exported = Annotated[Path, Argument(metavar="OUT", help="New directory, or a file such as out.tflite.")]
DType = Annotated[str, Option(metavar="DTYPE", help="How weights are stored: float32, float16 or int8.")]
Dense = Annotated[bool, Option("--dense", help="Store the zeros, too (SavedModel only).")]
Inputs = Annotated[
    Path | None, Option(metavar="FILE", help="Example inputs, which int8 in TFLite needs: .npy, or .npz by input.")
]
ModelOrConfig = Annotated[Path, Argument(metavar="MODEL", help="A .keras file, run directory or config (.yaml).")]
Target = Annotated[str, Option(metavar="NAME", help="Where it runs: tflite-cpu, xnnpack-arm, savedmodel or any.")]
Measure = Annotated[bool, Option("--measure/--no-measure", help="Measure bytes and seconds on this machine, or not.")]
Sparsity = Annotated[float, Option(help="Fraction of zeros in [0, 1).")]
Run = Annotated[Path, Argument(metavar="DIR", help="Run directory.")]
Drop = Annotated[float, Option(min=0.0, help="Largest drop of accuracy: 0.005 is half a point.")]
PlanFile = Annotated[Path | None, Option(metavar="FILE", help="Write the config to a file, e.g. plan.yaml.")]
Script = Annotated[Path, Argument(metavar="SCRIPT", help="Python script that prunes with TFMOT.")]
Check = Annotated[
    bool,
    Option("--check", help="Run the script before and after, two steps on random data each, and compare the models."),
]


def run() -> None:
    """Run the command line. Exit code: 0, 1 for an open end, 2 for a mistake of the user, 130 for Ctrl-C."""
    try:
        app(prog_name="tfsparse")
    except KeyboardInterrupt:  # outside of a command
        sys.exit(130)


def _version(is_requested: bool):
    if is_requested:
        import importlib.metadata

        typer.echo(f"tfsparse {importlib.metadata.version('tfsparse')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
):
    """Train sparse Keras models, exactly as sparse as requested."""


@app.command()
def train(
    config: Config = None,
    set_: Overrides = None,
    out: OutDir = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
):
    """Train a model as a config says, and write a run directory."""
    load_commands().train(config, set_, out, resume, overwrite)


@app.command()
def matrix(file: Comparison, set_: Overrides = None, out: OutDir = None, plot: Plot = None, overwrite: Replace = False):
    """Train every method, sparsity and seed of a comparison. Finished runs are kept, interrupted ones go on."""
    load_commands().matrix(file, set_, out, plot, overwrite)


@app.command()
def compare(directories: Runs, out: Plot = None, overwrite: Replace = False):
    """Print finished runs in one table, with means over seeds."""
    load_commands().compare(directories, out, overwrite)


@app.command()
def report(file: Model, html: Page = None, dense: DenseRun = None, overwrite: Replace = False):
    """Print the target and the actual sparsity of each weight of a model, or write an HTML page."""
    load_commands().report(file, html, dense, overwrite)


@app.command()
def export(file: Model, out: Exported, values: DType = "float32", dense: Dense = False, representative: Inputs = None):
    """Export a model as a small SavedModel, or as a TFLite file if OUT ends in .tflite."""
    load_commands().export(file, out, values, dense, representative)


@app.command()
def doctor(model: AnyModel, target: Target = "tflite-cpu", measure: Measure = True):
    """Explain why the zeros of each weight do not make a model smaller or faster, and what to train instead."""
    load_commands().doctor(model, target, measure)


@app.command()
def plan(
    model: ModelOrConfig,
    target: Target = "tflite-cpu",
    sparsity: Sparsity = 0.9,
    out: PlanFile = None,
    overwrite: Replace = False,
):
    """Choose for each weight the pattern of zeros that pays on a target, and write a config for `tfsparse train`."""
    load_commands().plan(model, target, sparsity, out, overwrite)


@app.command()
def frontier(
    directory: Run,
    target: Target = "tflite-cpu",
    drop: Drop = 0.005,
    measure: Measure = True,
    out: Plot = None,
    overwrite: Replace = False,
):
    """Show how sparse the network of a run can be: accuracy, bytes and milliseconds at several sparsities."""
    load_commands().frontier(directory, target, drop, measure, out, overwrite)


@app.command()
def migrate(script: Script, check: Check = False):
    """Print the changes that turn a script for TFMOT into one for tfsparse, and what is left to do by hand."""
    load_commands().migrate(script, check)
