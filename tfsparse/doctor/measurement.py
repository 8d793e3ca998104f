"""Bytes and milliseconds of the forms of a model on this machine, measured in turns within one process."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from tfsparse.doctor.timing import Summary, summarize, time_in_turns
from tfsparse.export import tflite

ROUNDS, WINDOW = 9, 0.1  # of `time_in_turns`


class NotMeasurable(Exception):
    """A target cannot be measured on this machine; the message says why."""


@dataclasses.dataclass(frozen=True)
class Form:
    """A form of a model.

    Args:
        name: What the result calls it.
        bytes: Its bytes on disk.
        run: Function that computes the outputs for one example.
    """

    name: str
    bytes: int
    run: Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Cost:
    """Bytes on disk and milliseconds per call of a form."""

    form: str
    bytes: int
    milliseconds: Summary


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What the forms of a model cost.

    Args:
        costs: Of the dense form, then of the sparse one; or of one form alone.
        speedup: How many times faster the sparse form is, over the rounds; None if there is one form.
    """

    costs: tuple[Cost, ...]
    speedup: Summary | None

    def __str__(self):
        lines = [f"{c.form}: {c.bytes:,} bytes, {_text(c.milliseconds)} ms" for c in self.costs]
        if self.speedup is not None:
            dense, sparse = self.costs
            lines.append(f"{dense.bytes / sparse.bytes:.2f} times smaller, {_text(self.speedup)} times faster")
        return "\n".join(lines)


def _text(summary):
    return f"{summary.median:.3g} ({summary.min:.3g} to {summary.max:.3g})"


def measure(forms: Sequence[Form]) -> Measurement:
    """Measure one form, or a dense form and a sparse one in turns."""
    rounds = time_in_turns({form.name: form.run for form in forms}, ROUNDS, WINDOW)
    wall = {name: [seconds for seconds, _ in pairs] for name, pairs in rounds.items()}
    costs = tuple(Cost(f.name, f.bytes, summarize([1000 * s for s in wall[f.name]])) for f in forms)
    if len(forms) == 1:
        return Measurement(costs, None)
    return Measurement(costs, summarize([dense / sparse for dense, sparse in zip(*wall.values(), strict=True)]))


def saved_model_form(name: str, directory: pathlib.Path) -> Form:
    """Return a SavedModel as a form: its signature "serving_default", with TensorFlow's own number of threads."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(directory))
    serve = loaded.signatures["serving_default"]
    specs = serve.structured_input_signature[1]
    batch = {key: tf.constant(_example(s.shape.as_list(), s.dtype.as_numpy_dtype)) for key, s in specs.items()}
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    return Form(name, size, lambda: (loaded, [output.numpy() for output in serve(**batch).values()]))


def tflite_form(name: str, content: bytes) -> Form:
    """Return a TFLite file as a form: the interpreter with its default kernels, on one thread."""
    interpreter = tflite.interpreter(content, num_threads=1)
    interpreter.allocate_tensors()
    inputs = {d["index"]: _example(d["shape"], d["dtype"]) for d in interpreter.get_input_details()}

    def run():
        for index, example in inputs.items():
            interpreter.set_tensor(index, example)
        interpreter.invoke()

    return Form(name, len(content), run)


def _example(shape, dtype):
    """Return one example: seeded random floats, or zeros for integers."""
    sides = [side or 1 for side in shape]
    numbers = np.random.default_rng(0).normal(size=sides) if np.issubdtype(dtype, np.floating) else np.zeros(sides)
    return numbers.astype(dtype)
