"""The config of a training of seconds, for the tests of what configs become."""

from tfsparse import config

SMALL = {
    "epochs": 2,
    "data": {"name": "digits", "batch_size": 128},
    "model": {"name": "mlp", "widths": [16]},
    "optimizer": {"name": "adam", "learning_rate": {"name": "one_cycle", "max": 0.01}},
    "prune": {"sparsity": 0.75},
}


def small(*overrides):
    return config.validate(SMALL, overrides)
