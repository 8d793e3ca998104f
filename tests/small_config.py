"""A config that trains in seconds, and what tests compare of a run."""

import pathlib
import pkgutil
import re

from tfsparse.backend import run_directory
from tfsparse.experiments import config, methods

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"

SMALL = {
    "epochs": 2,
    "data": {"name": "digits", "batch_size": 128},
    "model": {"name": "mlp", "widths": [16]},
    "optimizer": {"name": "adam", "learning_rate": {"name": "one_cycle", "max": 0.01}},
    "prune": {"sparsity": 0.75},
}


def small(*overrides):
    """`SMALL` with overrides, as after `--set`."""
    return config.validate(SMALL, overrides)


def configs(folder=CONFIGS):
    """The files of a folder that ask for no method that has been removed."""
    removed = {module.name for module in pkgutil.iter_modules(methods.__path__)} - methods.METHODS.keys()
    asks = re.compile(rf"\b({'|'.join(removed) or '(?!)'})\b")
    return [path for path in sorted(folder.glob("*.yaml")) if not asks.search(path.read_text(encoding="utf-8"))]


def bits(directory):
    """Return the weights, the optimizer state and the metrics of a run, which must not depend on interruptions."""
    model = run_directory.read_model(directory / "model.keras")
    state = [(v.name, v.numpy().tobytes()) for v in [*model.variables, *model.optimizer.variables]]
    run = run_directory.read(directory)
    return state, run["epochs"], run["status"], run["report"]
