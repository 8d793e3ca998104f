"""Why is my file not smaller? Why is it not faster?"""

import dataclasses
import json
import os
import pathlib
import tempfile

import keras

from tfsparse.doctor import measuring, patterns, subject, targets
from tfsparse.doctor.findings import findings
from tfsparse.doctor.measuring import Measured, Unmeasured
from tfsparse.doctor.target import Target
from tfsparse.reporting.tables import Printed


@dataclasses.dataclass(frozen=True)
class Row:
    """One weight: its zeros, in [0, 1], and their pattern as `granularity=` calls it, "dense" where there are next to
    none; whether it is `smaller` and `faster` by them ("yes", "no", "hardly", "not measured"), `why` not, and what to
    do `instead`."""

    weight: str
    shape: tuple[int, ...]
    zeros: float
    pattern: str
    smaller: str
    faster: str
    why: str
    instead: str


@dataclasses.dataclass(frozen=True)
class Diagnosis(Printed):
    """What zeros gain a model on a target; prints itself as a table, below what there is to say of the whole.

    `measured` has bytes and milliseconds of the dense and the sparse form on this host; where it is None, `unmeasured`
    says why.

    >>> diagnosis = tfsparse.doctor(model); print(diagnosis); diagnosis.as_dict()["findings"]
    """

    width = 140
    model: str
    target: str
    title: str
    findings: tuple[str, ...]
    rows: tuple[Row, ...]
    measured: Measured | None
    unmeasured: str | None

    def as_dict(self) -> dict:
        """Everything, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def table(self):
        """A `rich.table.Table`."""
        from rich.table import Table

        lines = (f"{self.model} on {self.target}: {self.title}", *(f"- {finding}" for finding in self.findings))
        table = Table(title="\n".join(lines), title_justify="left", title_style="", caption_justify="left", expand=True)
        for name in ("weight", "shape", "zeros", "pattern", "smaller", "faster", "why not", "instead"):
            table.add_column(name, justify="right" if name == "zeros" else "left", overflow="fold")
        for r in self.rows:
            shape = "x".join(map(str, r.shape))
            table.add_row(r.weight, shape, f"{r.zeros:.1%}", r.pattern, r.smaller, r.faster, r.why, r.instead)
        table.caption = f"not measured: {self.unmeasured}"
        if self.measured is not None:
            table.caption = f"measured on this host, an example at a time, median (least to most):\n{self.measured}"
        return table


def doctor(
    model: keras.Model | str | os.PathLike, target: str | Target = "tflite-cpu", measure: bool = True
) -> Diagnosis:
    """Say of every weight whether its zeros make the model smaller or faster on a target, why not, and what to train.

        any zeros                      smaller, where they are stored sparse
        blocks (1, 4) of Dense layers  faster in TFLite, float32, from 75 % on
        channels, removed by `shrink`  smaller and faster everywhere

    Whatever can be measured here is measured and not promised: the dense and the sparse form are written to a temporary
    directory, and answer to one example in turns.

    Args:
        model: a Keras 3 model; or the path of a `.keras` file, of a run directory, of a `.tflite` file, or of the
            directory of a SavedModel.
        target: "tflite-cpu" (x86), "xnnpack-arm" (nothing of it is measured here), "savedmodel" (TensorFlow, TensorFlow
            Serving, XLA), or "any": fewer channels.
        measure: False leaves bytes and seconds out.

    Raises: ValueError for an unknown target, a file that cannot be read or is packed already, or one that the target
        does not run.

    >>> print(tfsparse.doctor("model.keras", target="tflite-cpu"))
    """
    place = targets.get(target)
    patient = subject.of(model, place.takes, f'asked about target="{place.name}"')
    weights = patient.weights()
    found = [patterns.found(weight.array) for weight in weights]
    rows = tuple(_row(w, p, place.verdict(w, p)) for w, p in zip(weights, found, strict=True))
    said = tuple(findings(patient, place, weights, found))
    return Diagnosis(patient.name, place.name, place.title, said, rows, *_measured(patient, place, measure))


def _row(weight, pattern, verdict):
    return Row(weight.name, weight.shape, pattern.zeros, pattern.name, **dataclasses.asdict(verdict))


def _measured(patient, place, measure):
    """What was measured, or why nothing was."""
    if not measure:
        return None, "not asked for"
    try:
        with tempfile.TemporaryDirectory() as folder:
            return measuring.measure(place.forms(patient, pathlib.Path(folder))), None
    except Unmeasured as reason:
        return None, str(reason)
    except Exception as error:  # whatever a converter raises for what it does not know: the rows stand all the same
        return None, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
