"""Bytes and milliseconds of the forms of a model on this machine, measured in turns."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from tfsparse.backend import child_process
from tfsparse.doctor.timing import Summary, summarize, time_in_turns
from tfsparse.export import tflite

ROUNDS, WINDOW = 9, 0.1  # of `time_in_turns`
LIMIT = 300  # seconds for all rounds in a process of its own
PROCESSES = 3  # of `milliseconds`


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
class TFLiteForm:
    """A TFLite file as a form: the interpreter with its default kernels, on one thread.

    Args:
        name: What the result calls it.
        content: Content of the file.
        signature: The signature to run; None for the file's first graph.
    """

    name: str
    content: bytes
    signature: str | None

    @classmethod
    def from_content(cls, name: str, content: bytes) -> "TFLiteForm":
        """Return a file as a form. Of several signatures "serving_default" or else the first is run, and named."""
        from tfsparse.export import tflite_file  # not at the top: it imports TensorFlow

        graphs = tflite_file.signatures(content)
        signature = tflite.SIGNATURE if tflite.SIGNATURE in graphs else next(iter(graphs), None)
        name = f'{name}, signature "{signature}"' if len(graphs) > 1 else name
        return cls(name, content, signature if graphs.get(signature) else None)

    @property
    def bytes(self) -> int:
        """Bytes of the file."""
        return len(self.content)

    @functools.cached_property
    def run(self) -> Callable[[], object]:
        """Function that computes the outputs for one example."""
        interpreter = tflite.interpreter(self.content, num_threads=1)
        return _first_graph(interpreter) if self.signature is None else _one_signature(interpreter, self.signature)


class ForeignTFLiteForm(TFLiteForm):
    """A TFLite file that tfsparse did not make: the interpreter does not verify it, and may crash or never end."""


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


def measure(forms: Sequence[Form | TFLiteForm]) -> Measurement:
    """Measure one form, or a dense form and a sparse one in turns. Foreign files run in a process of their own.

    Args:
        forms: The forms.

    Returns:
        What they cost.

    Raises:
        NotMeasurable: If that process crashes, or takes too long.
    """
    are_foreign = all(isinstance(form, ForeignTFLiteForm) for form in forms)
    seconds = _time_in_child(forms) if are_foreign else _time(forms, ROUNDS, WINDOW)
    costs = tuple(Cost(f.name, f.bytes, _in_milliseconds(s)) for f, s in zip(forms, seconds, strict=True))
    if len(forms) == 1:
        return Measurement(costs, None)
    return Measurement(costs, summarize([dense / sparse for dense, sparse in zip(*seconds, strict=True)]))


def milliseconds(forms: Sequence[Form | TFLiteForm]) -> tuple[list[Summary], int]:
    """Measure any number of forms in turns; files of TFLite in three processes, since one is faster than the next.

    Args:
        forms: The forms.

    Returns:
        Milliseconds per call of each form, over all rounds of all processes, and the number of processes.

    Raises:
        NotMeasurable: If a process crashes, or takes too long.
    """
    are_files = all(isinstance(form, TFLiteForm) for form in forms)
    others = [_time_in_child(forms) for _ in range(PROCESSES - 1)] if are_files else []
    processes = [*others, _time(forms, ROUNDS, WINDOW)]  # last: what runs here cannot be sent to another process
    return [_in_milliseconds(itertools.chain(*seconds)) for seconds in zip(*processes, strict=True)], len(processes)


def _time(forms, rounds, window):
    """Return the seconds of each form in each round."""
    timed = time_in_turns({index: form.run for index, form in enumerate(forms)}, rounds, window)
    return [[seconds for seconds, _ in timed[index]] for index in range(len(forms))]


def _in_milliseconds(seconds):
    return summarize([1000 * s for s in seconds])


def _time_in_child(forms):
    try:
        return child_process.call(_time, forms, ROUNDS, WINDOW, seconds=LIMIT)
    except child_process.ChildDied as error:
        raise NotMeasurable(f"TFLite's interpreter {error}") from error


def saved_model_form(name: str, directory: pathlib.Path) -> Form:
    """Return a SavedModel as a form: its signature "serving_default", with TensorFlow's own number of threads."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(directory))
    serve = loaded.signatures["serving_default"]
    specs = serve.structured_input_signature[1]
    batch = {key: tf.constant(_example(s.shape.as_list(), s.dtype.as_numpy_dtype)) for key, s in specs.items()}
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    return Form(name, size, lambda: (loaded, [output.numpy() for output in serve(**batch).values()]))


def _first_graph(interpreter):
    """Return a function that runs the first graph of a file."""
    interpreter.allocate_tensors()
    inputs = {d["index"]: _example(d["shape"], d["dtype"]) for d in interpreter.get_input_details()}

    def run():
        for index, example in inputs.items():
            interpreter.set_tensor(index, example)
        interpreter.invoke()

    return run


def _one_signature(interpreter, signature):
    """Return a function that runs another graph than the first, which TFLite's runners alone can do."""
    runner = interpreter.get_signature_runner(signature)
    inputs = {name: _example(d["shape"], d["dtype"]) for name, d in runner.get_input_details().items()}
    return lambda: runner(**inputs)


def _example(shape, dtype):
    """Return one example: seeded random floats, or zeros for integers."""
    sides = [side or 1 for side in shape]
    numbers = np.random.default_rng(0).normal(size=sides) if np.issubdtype(dtype, np.floating) else np.zeros(sides)
    return numbers.astype(dtype)
