"""What the models of a script are: its training is cut to two steps on random data, in a process of its own."""

import contextlib
import os
import pathlib
import runpy
import sys
import tempfile
import traceback
from typing import NamedTuple
from unittest import mock

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.sparsity.keras.pruning_wrapper import PruneLowMagnitude as StockWrapper
from tensorflow_model_optimization.sparsity.keras import ConstantSparsity, PruningSchedule

from tfsparse.backend import child_process
from tfsparse.tfmot import kernels, schedules

_STEPS = 2
_DEFAULT_SCHEDULE = ConstantSparsity(0.5, 0)  # of TFMOT's wrapper
_EXAMPLES = {"mnist": (28, 28), "fashion_mnist": (28, 28), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3)}


class ModelFacts(NamedTuple):
    """What must be equal before and after a migration.

    Attributes:
        layers: Class of each layer, without its wrapper, and the shapes of its trainable weights.
        zeros: Of each pruned weight, or each kernel of a model without wrappers: its shape and its zeros.
        schedules: Of each pruned weight: the sparsity at eleven steps from begin to end.
    """

    layers: list[str]
    zeros: list[tuple[tuple[int, ...], int]]
    schedules: list[list[float]]


class ScriptError(ValueError):
    """The script does not run on random data."""


def models_of(source: str, script: str, seconds: float = 600.0) -> dict[str, ModelFacts]:
    """Run a script in a process of its own, each `fit` for two steps, and say what its tf_keras models are.

    Keras's data sets of images are replaced by random numbers of their shapes. Masks are those of the end of the
    schedule. The script writes into a temporary directory.

    Args:
        source: The code of the script.
        script: Its path, for messages and for the modules that lie beside it.
        seconds: Longest time that it may take. Default: 600.

    Returns:
        The facts of the models that `fit` has trained and of those in global variables, by name.

    Raises:
        ScriptError: If the script raises an error or takes longer.
    """
    try:
        return child_process.call(_run, source, str(pathlib.Path(script).resolve()), seconds=seconds)
    except child_process.ChildDied as error:
        raise ScriptError(f"it {error}") from None


def _run(source, script):
    trained = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as patches:
        copy = pathlib.Path(folder, "script.py")
        copy.write_text(source, encoding="utf-8")
        patches.enter_context(contextlib.chdir(folder))
        patches.enter_context(mock.patch.object(sys, "argv", [script]))
        patches.enter_context(mock.patch.object(sys, "path", [os.path.dirname(script), *sys.path]))
        patches.enter_context(mock.patch.object(tf_keras.Model, "fit", _two_steps(tf_keras.Model.fit, trained)))
        patches.enter_context(mock.patch.object(StockWrapper, "__init__", _at_end(StockWrapper.__init__)))
        for name, shape in _EXAMPLES.items():
            for module in (getattr(tf.keras.datasets, name), getattr(tf_keras.datasets, name)):
                patches.enter_context(mock.patch.object(module, "load_data", _random_images(shape)))
        tf_keras.utils.set_random_seed(0)
        names = _executed(copy)
        found = {name: value for name, value in names.items() if isinstance(value, tf_keras.Model)}
        found |= {f"fit {number}": model for number, model in enumerate(trained, start=1)}
        return {name: _facts(model) for name, model in found.items()}


def _executed(copy):
    try:
        return runpy.run_path(str(copy), run_name="__main__")
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(copy)]
        place = f"line {frames[-1].lineno}: " if frames else ""
        raise ScriptError(f"{place}{type(error).__name__}: {str(error).strip()}") from None


def _random_images(shape):
    def load_data(*args, **kwargs):
        random = np.random.default_rng(0)
        parts = [
            (random.integers(0, 256, (n, *shape), np.uint8), random.integers(0, 10, n, np.uint8)) for n in (256, 64)
        ]
        return tuple(parts)

    return load_data


def _two_steps(fit, trained):
    """Return `fit` for two steps of one epoch, which remembers the model."""

    def two_steps(self, x=None, y=None, batch_size=None, callbacks=None, sample_weight=None, **options):
        if y is not None:
            x, y, sample_weight = tf.nest.map_structure(
                lambda array: None if array is None else array[: _STEPS * (batch_size or 32)], (x, y, sample_weight)
            )
        trained.append(self)
        options = {key: options[key] for key in ("class_weight",) if key in options}
        return fit(
            self, x, y, batch_size, epochs=1, verbose=0, callbacks=callbacks, sample_weight=sample_weight,
            steps_per_epoch=_STEPS, **options,
        )  # fmt: skip

    return two_steps


class _AtEnd(PruningSchedule):
    """A schedule that updates at every step, with the sparsity of another one's end."""

    def __init__(self, schedule):
        self.schedule = schedule
        self.steps = _steps(schedule)

    @property
    def final_sparsity(self):
        return schedules.final_sparsity(self.schedule)

    def __call__(self, step):
        return tf.constant(True), self.schedule(tf.constant(self.steps[-1], tf.int64))[1]

    def get_config(self):
        return self.schedule.get_config()


def _steps(schedule):
    """Return steps from the beginning to the end of a schedule; of one without an end, the steps after its begin."""
    begin = getattr(schedule, "begin_step", 0)
    return np.linspace(begin, max(schedules.end_step(schedule), begin + 10), 11).astype(int)


def _at_end(init):
    """Return the constructor of the wrappers with a schedule that is at its end."""

    def at_end(self, layer, pruning_schedule=_DEFAULT_SCHEDULE, *args, **kwargs):
        schedule = pruning_schedule if isinstance(pruning_schedule, _AtEnd) else _AtEnd(pruning_schedule)
        init(self, layer, schedule, *args, **kwargs)

    return at_end


def _facts(model):
    pruned = [(w, mask) for w in kernels.wrappers(model) for mask in (mask for _, mask, _ in w.pruning_vars)]
    arrays = [mask for _, mask in pruned] or [weight for weight in model.weights if kernels.is_kernel(weight)]
    return ModelFacts(
        [_described(layer) for layer in _plain_layers(model)],
        [(tuple(array.shape), int(np.sum(array.numpy() == 0))) for array in arrays],
        [_sparsities(wrapper.pruning_schedule) for wrapper, _ in pruned],
    )


def _plain_layers(model):
    for layer in model.layers:
        plain = layer.layer if isinstance(layer, StockWrapper) else layer
        if isinstance(plain, tf_keras.Model):
            yield from _plain_layers(plain)
        else:
            yield plain


def _described(layer):
    return f"{type(layer).__name__} {[tuple(weight.shape) for weight in layer.trainable_weights]}"


def _sparsities(schedule):
    return [float(schedule.schedule(tf.constant(step, tf.int64))[1]) for step in schedule.steps]


def differences(before: dict[str, ModelFacts], after: dict[str, ModelFacts]) -> list[str]:
    """Return what differs between the models of two scripts, one sentence each.

    One zero more or less in a weight is no difference: TFMOT rounds the number of weights that are kept.

    Args:
        before: The models of the script as it was.
        after: The models of the script as it is now.
    """
    if before.keys() != after.keys():
        return [f"the models are {', '.join(before) or 'none'} before and {', '.join(after) or 'none'} after"]
    return [f"{name}: {text}" for name in before for text in _differences(before[name], after[name])]


def summary(models: dict[str, ModelFacts]) -> str:
    """Return how much was compared, in words."""
    layers, zeros, schedules_ = (sum(map(len, facts)) for facts in zip(*models.values(), strict=True))
    return f"{layers} layers and the zeros of {zeros} weights of {len(models)} models, {schedules_} schedules"


def _differences(before, after):
    if before.layers != after.layers:
        yield f"the layers are {before.layers} before and {after.layers} after"
    if [shape for shape, _ in before.zeros] != [shape for shape, _ in after.zeros]:
        yield f"the pruned weights are {before.zeros} before and {after.zeros} after (shape, zeros)"
    elif any(abs(a - b) > 1 for (_, a), (_, b) in zip(before.zeros, after.zeros, strict=True)):
        yield f"the zeros are {[n for _, n in before.zeros]} before and {[n for _, n in after.zeros]} after"
    if len(before.schedules) != len(after.schedules) or not np.allclose(before.schedules, after.schedules, atol=1e-5):
        yield f"the sparsities from begin to end are {before.schedules} before and {after.schedules} after"
