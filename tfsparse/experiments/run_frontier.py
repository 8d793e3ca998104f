"""The frontier of a finished run, on its validation images."""

import os
import pathlib

import tensorflow as tf

from tfsparse.backend import files, run_directory, run_record
from tfsparse.doctor.frontier import Frontier, frontier
from tfsparse.experiments import config as configs
from tfsparse.experiments.zoo import data

_CALIBRATION_BATCHES = 100


def measure(directory: str | os.PathLike, target: str = "tflite-cpu", with_costs: bool = True) -> Frontier:
    """Measure how accurate the network of a run is at several sparsities, see `tfsparse.frontier`.

    Args:
        directory: Run directory with `model.keras` and `run.json`. The statistics of BatchNormalization are measured on
            its training images.
        target: What bytes and milliseconds are those of. Default: "tflite-cpu".
        with_costs: Whether to measure bytes and milliseconds. Default: True.

    Returns:
        A `Frontier`.

    Raises:
        ValueError: If the directory is no run, if its files cannot be read, or if the target is unknown.
    """
    directory = pathlib.Path(directory)
    config = configs.validate(run_record.read(directory)["config"], (), source=str(directory / "run.json"))
    section = config.data
    images = data.load(
        section.name, seed=config.seed, data_dir=section.dir, augment=section.augment,
        image_size=section.image_size, standardize=section.standardize,
    )  # fmt: skip
    model = run_directory.read_model(directory / "model.keras")
    options = {"target": target, "measure": with_costs, "verbose": False}
    return frontier(model, images.validation, calibration=images.train.take(_CALIBRATION_BATCHES), **options)


def record(directory: str | os.PathLike, frontier: Frontier) -> None:
    """Put a frontier into the record of a run, for its page, and into its TensorBoard.

        TensorBoard:  the scalar frontier/<metric>, its step is 1000 * sparsity

    Args:
        directory: The run directory, which `measure` has read.
        frontier: What `measure` returned.

    Raises:
        ValueError: If another process trains into the directory.
    """
    directory = pathlib.Path(directory)
    with files.locked(directory):
        run = run_directory.read(directory)
        run["frontier"] = frontier.as_dict() | {"sha256": files.digest(directory / "model.keras")}
        run_directory.write_run(directory, run)
    with tf.summary.create_file_writer(str(directory / "tensorboard" / "frontier")).as_default():
        for row in frontier.rows:
            tf.summary.scalar(f"frontier/{frontier.metric}", row.value, step=round(1000 * row.sparsity))
