"""Why is my file not smaller? Why is it not faster?"""

import dataclasses
import os
import pathlib
import tempfile

import keras

from tfsparse.backend.tables import Column, Printed, make_table, percent, shape
from tfsparse.doctor import measurement, patterns, sources, targets
from tfsparse.doctor.findings import findings_of
from tfsparse.doctor.measurement import Measurement, NotMeasurable
from tfsparse.doctor.target import Target
from tfsparse.export.tflite import NotConvertible

# below a title of several lines, over the whole width
TABLE_OPTIONS = {"title_justify": "left", "title_style": "", "caption_justify": "left", "expand": True}
COLUMNS = ("weight", Column("shape", text=shape), Column("zeros", "sparsity", percent, "right"), "pattern")
COLUMNS += ("smaller", "faster", Column("why not", "why"), "instead")


@dataclasses.dataclass(frozen=True)
class Row:
    """One weight of a diagnosis.

    Args:
        weight: Its name.
        shape: Its shape.
        sparsity: Fraction of zeros in [0, 1].
        pattern: The `granularity` that prunes such zeros; "dense" if there are hardly any.
        smaller: Whether the zeros make the file smaller: "yes", "no", "hardly" or "not measured".
        faster: Whether the zeros make the model faster: the same words.
        why: Reason why they do not.
        instead: What to do to gain more.
    """

    weight: str
    shape: tuple[int, ...]
    sparsity: float
    pattern: str
    smaller: str
    faster: str
    why: str
    instead: str


@dataclasses.dataclass(frozen=True, repr=False)
class Diagnosis(Printed):
    """What the zeros of a model gain on a target. `print` shows it as a table below the findings.

    Args:
        model: Name of the model.
        target: Name of the target.
        title: The target in words.
        findings: Sentences about the model as a whole.
        rows: One `Row` for each weight.
        measurement: Bytes and milliseconds of the dense and the sparse form on this machine; None if not measured.
        why_not_measured: Reason why nothing was measured; None if it was.

    Examples:
        >>> diagnosis = tfsparse.doctor(model); print(diagnosis); diagnosis.as_dict()["findings"]
    """

    width = 140
    model: str
    target: str
    title: str
    findings: tuple[str, ...]
    rows: tuple[Row, ...]
    measurement: Measurement | None
    why_not_measured: str | None

    def table(self):
        """Return a `rich.table.Table`."""
        title = (f"{self.model} on {self.target}: {self.title}", *(f"- {finding}" for finding in self.findings))
        caption = f"not measured: {self.why_not_measured}"
        if self.measurement is not None:
            caption = f"measured on this host, an example at a time, median (least to most):\n{self.measurement}"
        return make_table(COLUMNS, self.rows, title="\n".join(title), caption=caption, **TABLE_OPTIONS)


def doctor(
    model: keras.Model | str | os.PathLike, target: str | Target = "tflite-cpu", measure: bool = True
) -> Diagnosis:
    """Say of every weight whether its zeros make the model smaller or faster on a target, why not, and what to train.

        any zeros                      smaller, where they are stored sparse
        blocks (1, 4) of Dense layers  faster in TFLite, float32, from 75 % on
        channels, removed by `shrink`  smaller and faster everywhere

    What this machine can run is measured: the dense and the sparse form are written to a temporary directory, and
    compute the outputs for one example in turns.

    Args:
        model: A Keras 3 model; or the path of a `.keras` file, of a run directory, of a `.tflite` file, or of the
            directory of a SavedModel.
        target: "tflite-cpu" (x86), "xnnpack-arm" (never measured), "savedmodel" (TensorFlow, TensorFlow Serving, XLA),
            "any" (fewer channels), another registered name, or a `Target`. Default: "tflite-cpu".
        measure: Whether to measure bytes and milliseconds. Default: True.

    Returns:
        A `Diagnosis`.

    Raises:
        ValueError: If the target is unknown, if the file cannot be read or is packed already, or if the target does
            not run such a file.

    Examples:
        >>> print(tfsparse.doctor("model.keras", target="tflite-cpu"))
    """
    target = targets.get(target)
    others = (sources.TFLITE, sources.SAVED_MODEL)
    source = sources.read(model, target.kinds, f'diagnosed for target="{target.name}"', others)
    weights = source.weights()
    detected = [patterns.detect(weight.array) for weight in weights]
    rows = tuple(_row(w, p, target.verdict(w, p)) for w, p in zip(weights, detected, strict=True))
    findings = tuple(findings_of(source, weights, detected))
    return Diagnosis(source.name, target.name, target.title, findings, rows, *_measurement(source, target, measure))


def _row(weight, pattern, verdict):
    return Row(weight.name, weight.shape, pattern.sparsity, pattern.name, **dataclasses.asdict(verdict))


def _measurement(source, target, measure):
    """Return the measurement and the reason why there is none, one of them None."""
    if not measure:
        return None, "not asked for"
    try:
        with tempfile.TemporaryDirectory() as folder:
            return measurement.measure(target.forms(source, pathlib.Path(folder))), None
    except (NotMeasurable, NotConvertible) as reason:
        return None, str(reason)
    except Exception as error:  # a runtime raises many kinds; the rows are right all the same
        return None, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
