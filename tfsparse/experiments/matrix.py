"""Comparisons: every method, sparsity and seed of a YAML file is trained, one after the other.

Keys of the file:

    base:        the config that all runs have in common
    sparsities:  [0.9, 0.95]
    seeds:       [0, 1, 2]
    methods:     for each name, its changes of the base, as after `--set`:
                 agp: [prune.schedule=polynomial, prune.sparsity=$sparsity]

`$sparsity` is replaced by each sparsity, and `$compression` by 1 / (1 - sparsity). A method that uses neither is
trained once per seed.
"""

import os
import pathlib
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import keras
import pydantic
from pydantic import Field

from tfsparse.backend import files
from tfsparse.experiments import config as configs
from tfsparse.experiments import experiment
from tfsparse.experiments.run_config import RunConfig
from tfsparse.experiments.sections import ConfigError

Name = Annotated[str, pydantic.AfterValidator(files.check_name)]


class Matrix(pydantic.BaseModel):
    """The content of a comparison file."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    base: dict
    sparsities: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(min_length=1)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    methods: Annotated[dict[Name, tuple[str, ...]], Field(min_length=1)]


def load(path: str | os.PathLike, overrides: Sequence[str] = ()) -> dict[str, RunConfig]:
    """Read a comparison file.

    Args:
        path: The file.
        overrides: Changes of the base, such as `"epochs=3"`. Default: none.

    Returns:
        `{name: config}` of all runs. A name is such as `agp-0.9-seed0`.

    Raises:
        ConfigError: If the file is not a comparison, or one of its runs is not a valid config.

    Examples:
        >>> list(load("configs/comparison/mnist_lenet300.yaml"))[:4]
        ['dense-seed0', 'dense-seed1', 'dense-seed2', 'one_cycle-0.9-seed0']
    """
    try:
        matrix = Matrix.model_validate(configs.read(path))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(
            f"{path} is not a comparison: {where}: {first['msg']}. Expected base, sparsities, seeds, methods, and in "
            "methods e.g. agp: [prune.schedule=polynomial, prune.sparsity=$sparsity]"
        ) from None
    return {name: _config(matrix, name, [*overrides, *changes], path) for name, changes in _runs(matrix)}


def train(
    runs: dict[str, RunConfig],
    out_dir: str | os.PathLike,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    on_run_begin: Callable[[str], None] = lambda name: None,
) -> dict[str, dict]:
    """Train every run into `out_dir/<name>`. Finished runs are skipped, and an interrupted one is resumed.

    Args:
        runs: `{name: config}`.
        out_dir: The folder of all run directories.
        callbacks: Callbacks of Keras for every run. Default: none.
        on_run_begin: Function that is called with the name of a run before it is trained. Default: none.

    Returns:
        `{name: record}`.

    Raises:
        RunError: If a directory holds something else.
    """
    records = {}
    for name, config in runs.items():
        on_run_begin(name)
        directory = pathlib.Path(out_dir, name)
        exists = (directory / "run.json").is_file()
        keras.backend.clear_session()  # otherwise the models of all runs stay in memory
        records[name] = experiment.train(config, directory, resume=exists, callbacks=callbacks)
    return records


def _runs(matrix: Matrix) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the overrides of every run."""
    for method, changes in matrix.methods.items():
        targets = matrix.sparsities if any("$" in change for change in changes) else (None,)
        for sparsity in targets:
            for seed in matrix.seeds:
                parts = [method, *([] if sparsity is None else [f"{sparsity:g}"]), f"seed{seed}"]
                yield "-".join(parts), [*_substituted(changes, sparsity), f"seed={seed}"]


def _substituted(changes, sparsity):
    values = {} if sparsity is None else {"sparsity": sparsity, "compression": 1 / (1 - sparsity)}
    return [string.Template(change).safe_substitute(values) for change in changes]


def _config(matrix, name, overrides, path):
    return configs.validate(matrix.base, overrides, source=f"{path}, {name}")
