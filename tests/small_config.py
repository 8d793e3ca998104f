"""The config of a training of seconds, and what a run leaves; for the tests of what configs become."""

from tfsparse.backend import run_directory
from tfsparse.experiments import config

SMALL = {
    "epochs": 2,
    "data": {"name": "digits", "batch_size": 128},
    "model": {"name": "mlp", "widths": [16]},
    "optimizer": {"name": "adam", "learning_rate": {"name": "one_cycle", "max": 0.01}},
    "prune": {"sparsity": 0.75},
}


def small(*overrides):
    return config.validate(SMALL, overrides)


def bits(directory):
    """All that a run leaves which must not depend on interruptions."""
    model = run_directory.read_model(directory / "model.keras")
    state = [(v.name, v.numpy().tobytes()) for v in [*model.variables, *model.optimizer.variables]]
    run = run_directory.read(directory)
    return state, run["epochs"], run["status"], run["report"]
