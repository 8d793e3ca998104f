"""Bytes and seconds of a model's forms on this host, taken in turns within one process."""

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from tfsparse.doctor import timing
from tfsparse.doctor.timing import Spread

ROUNDS, WINDOW = 9, 0.1  # seconds of one measurement


class Unmeasured(Exception):
    """Why something is not measured, as a part of a sentence."""


@dataclasses.dataclass(frozen=True)
class Form:
    """A form of a model: its bytes and a function that answers to one example."""

    name: str
    bytes: int
    run: Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a form takes: bytes on disk, milliseconds per call."""

    form: str
    bytes: int
    milliseconds: Spread


@dataclasses.dataclass(frozen=True)
class Measured:
    """The costs of the dense form and of the sparse one, and how many times faster the second is, round by round; None
    where there is only one form."""

    costs: tuple[Cost, ...]
    times_faster: Spread | None

    def __str__(self):
        lines = [f"{c.form}: {c.bytes:,} bytes, {_short(c.milliseconds)} ms" for c in self.costs]
        if self.times_faster is not None:
            dense, sparse = self.costs
            lines.append(f"{dense.bytes / sparse.bytes:.2f} times smaller, {_short(self.times_faster)} times faster")
        return "\n".join(lines)


def _short(spread):
    return f"{spread.median:.3g} ({spread.min:.3g} to {spread.max:.3g})"


def measure(forms: Sequence[Form]) -> Measured:
    """Seconds per call of all forms, in turns."""
    seconds = timing.turns({form.name: form.run for form in forms}, ROUNDS, WINDOW)
    wall = {name: [pair[0] for pair in pairs] for name, pairs in seconds.items()}
    costs = tuple(Cost(f.name, f.bytes, Spread.of([1000 * s for s in wall[f.name]])) for f in forms)
    if len(forms) == 1:
        return Measured(costs, None)
    dense, sparse = wall.values()
    return Measured(costs, Spread.of([d / s for d, s in zip(dense, sparse, strict=True)]))


def saved_model(name: str, directory: pathlib.Path) -> Form:
    """The serving function of a SavedModel, with the threads that TensorFlow takes."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(directory))
    serve = loaded.signatures["serving_default"]
    specs = serve.structured_input_signature[1]
    batch = {key: tf.constant(_example(s.shape.as_list(), s.dtype.as_numpy_dtype)) for key, s in specs.items()}
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    return Form(name, size, lambda: (loaded, [answer.numpy() for answer in serve(**batch).values()]))


def tflite(name: str, content: bytes) -> Form:
    """TFLite's interpreter with its default kernels, on one thread."""
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter")  # it has moved to another package
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    inputs = {d["index"]: _example(d["shape"], d["dtype"]) for d in interpreter.get_input_details()}

    def run():
        for index, example in inputs.items():
            interpreter.set_tensor(index, example)
        interpreter.invoke()

    return Form(name, len(content), run)


def _example(shape, dtype):
    """One example of seeded numbers, of indices zeros."""
    sides = [side or 1 for side in shape]
    numbers = np.random.default_rng(0).normal(size=sides) if np.issubdtype(dtype, np.floating) else np.zeros(sides)
    return numbers.astype(dtype)
