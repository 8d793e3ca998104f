"""The frontier of a finished run, on its validation images."""

import os
import pathlib

from tfsparse.backend import run_directory, run_record
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
