"""Methods x sparsities x seeds: every training that a comparison asks for, one after the other, resumable.

    base:        what all runs have in common, a config
    sparsities:  [0.9, 0.95]
    seeds:       [0, 1, 2]
    methods:     a name, and what it changes in the base, as after `--set`:
                 agp: [prune.schedule=polynomial, prune.sparsity=$sparsity]

`$sparsity` and `$compression`, 1 / (1 - sparsity), stand for what is asked; a method without them is run once per seed.
"""

import os
import pathlib
import string
from collections.abc import Callable, Iterator, Sequence

import keras
import pydantic

from tfsparse.experiments import config as configs
from tfsparse.experiments import experiment
from tfsparse.experiments.run_config import RunConfig
from tfsparse.experiments.sections import ConfigError


class Matrix(pydantic.BaseModel):
    """What a file of a comparison holds."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    base: dict
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)
    methods: dict[str, tuple[str, ...]]


def load(path: str | os.PathLike, overrides: Sequence[str] = ()) -> dict[str, RunConfig]:
    """Return the config of every run by its name, such as `agp-0.9-seed0`; `overrides` are of the base.

    Raises ConfigError for a file that is no comparison, and for the first run that is no config.

    >>> list(load("configs/comparison/mnist_lenet300.yaml"))[:4]
    ['dense-seed0', 'dense-seed1', 'dense-seed2', 'one_cycle-0.9-seed0']
    """
    try:
        matrix = Matrix.model_validate(configs.read(path))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{path} is not a comparison: {where}: {first['msg']}. Expected base, sparsities, seeds, methods, and in "
            "methods e.g. agp: [prune.schedule=polynomial, prune.sparsity=$sparsity]"
        ) from None
    return {name: _config(matrix, name, [*overrides, *changes], path) for name, changes in _runs(matrix)}


def train(
    runs: dict[str, RunConfig],
    out_dir: str | os.PathLike,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    begin: Callable[[str], None] = lambda name: None,
) -> dict[str, dict]:
    """Train every run into a directory of its name in `out_dir`, and return their records; `begin` hears each name.

    Finished runs are not trained again, and one that was broken off goes on where it was.

    Raises RunError for a directory that holds something else, before anything is trained there.
    """
    records = {}
    for name, config in runs.items():
        begin(name)
        directory = pathlib.Path(out_dir, name)
        begun = (directory / "run.json").is_file()
        keras.backend.clear_session()  # or the models of all runs would stay in memory
        records[name] = experiment.train(config, directory, resume=begun, callbacks=callbacks)
    return records


def _runs(matrix: Matrix) -> Iterator[tuple[str, list[str]]]:
    """Names and overrides."""
    for method, changes in matrix.methods.items():
        targets = matrix.sparsities if any("$" in change for change in changes) else (None,)
        for sparsity in targets:
            for seed in matrix.seeds:
                parts = [method, *([] if sparsity is None else [f"{sparsity:g}"]), f"seed{seed}"]
                yield "-".join(parts), [*_filled(changes, sparsity), f"seed={seed}"]


def _filled(changes, sparsity):
    asked = {} if sparsity is None else {"sparsity": sparsity, "compression": 1 / (1 - sparsity)}
    return [string.Template(change).safe_substitute(asked) for change in changes]


def _config(matrix, name, overrides, path):
    return configs.validate(matrix.base, overrides, source=f"{path}, {name}")
