"""The model that a config would train."""

import os

from tfsparse.doctor.sources import KerasSource
from tfsparse.experiments import config as configs
from tfsparse.experiments.zoo import data, models


def read(path: str | os.PathLike) -> tuple[dict, KerasSource]:
    """Return the content of a config file, and its model with initial weights.

    Raises:
        ConfigError: If the file is not a config.
        ValueError: If the data set or the model cannot be had.
    """
    config = configs.load(path)
    data_set = data.load(
        config.data.name, config.data.batch_size, data_dir=config.data.dir, image_size=config.data.image_size
    )
    model = models.build(config.model.name, data_set.input_shape, data_set.num_classes, **config.model.options)
    return configs.read(path), KerasSource(model)
