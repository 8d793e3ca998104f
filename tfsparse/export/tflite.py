"""A TFLite file of the trained model: sparse where that makes it smaller, and run sparse where TFLite can."""

import dataclasses
import json
import os
import pathlib
import tempfile
import warnings
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfsparse.export import packing
from tfsparse.export.saved_model import export
from tfsparse.reporting.tables import Printed

CHECKED = 16  # examples on which answers are compared
SIGNATURE = "serving_default"
TOLERANCE = 1e-4  # between the sparse and the dense file, of the largest answer: sums in another order


class WrongExamples(ValueError):
    """The `representative` examples do not fit the model."""


@dataclasses.dataclass(frozen=True)
class TFLiteFile(Printed):
    """What is in a TFLite file; prints itself as a table.

    `tensors` has every weight of rank 2 and more: how it is `stored` and how it `runs`, "sparse" or "dense", and `why`
    it does not run sparse. `difference` is the largest between answers of the file and of the model, None if it was
    only inspected.

    >>> file = tfsparse.inspect_tflite("out.tflite"); print(file); file.as_dict()["tensors"]
    """

    width = 150
    path: pathlib.Path
    bytes: int
    tensors: tuple
    difference: float | None = None

    def as_dict(self) -> dict:
        """Everything, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))

    def table(self):
        """A `rich.table.Table`."""
        from rich.table import Table

        table = Table(title=f"{self.path}: {self.bytes:,} bytes")
        for name in ("weight", "shape", "dtype", "zeros", "stored", "bytes", "dense", "runs", "why"):
            table.add_column(name, justify="right" if name in ("zeros", "bytes", "dense") else "left", overflow="fold")
        for t in self.tensors:
            size = (f"{t.bytes:,}", f"{t.dense_bytes:,}")
            table.add_row(t.name, str(t.shape), t.dtype, f"{t.zeros:.1%}", t.stored, *size, t.runs, t.why)
        if self.difference is not None:
            table.caption = f"largest difference to the model's answers: {self.difference:.2g}"
        return table


def export_tflite(
    model: keras.Model | str | os.PathLike,
    path: str | os.PathLike,
    values: str = "float32",
    representative: np.ndarray | Mapping[str, np.ndarray] | str | os.PathLike | None = None,
) -> TFLiteFile:
    """Write a TFLite file in which sparse weights take few bytes, and blocks of Dense layers little time.

        Dense, float32, >= 75 % of blocks (1, 4) empty:      stored sparse, runs sparse
        Dense and convolutions else, if smaller by a fifth:  stored sparse, unpacked when the interpreter is made
        all others:                                          dense

    The file is run on examples before it appears, whole or not at all: its answers must be those of a dense TFLite
    file, and how far they are from the model's is returned.

    Args:
        model: as for `tfsparse.export`, on the TensorFlow backend; of the directory of a SavedModel, the signature
            "serving_default".
        path: of the new file.
        values: "float32"; "float16", which weights are rounded to; "int8": weights and activations are integers, inputs
            and outputs float32. Zeros stay zero in all of them. Only float32 runs sparse.
        representative: examples that the model may meet, a hundred or more along the first axis: an array, or a dict of
            arrays by input, or the file that `numpy.save` or `numpy.savez` made of these. "int8" needs them to scale
            activations. Answers are compared on the first 16 of them; without any, on seeded random numbers.

    Returns: what is in the file, and the largest difference of its answers.

    Raises:
        ValueError: if `path` exists, the model's weights do not match its masks, or representative is missing or wrong.
        RuntimeError: if this TensorFlow's interpreter answers otherwise with sparse weights than with dense ones.

    >>> print(tfsparse.export_tflite(model, "out.tflite"))
    >>> tfsparse.export_tflite(model, "out8.tflite", values="int8", representative=x[:200])
    """
    path = pathlib.Path(path)
    _check_options(path, values, representative)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        folder = pathlib.Path(folder)
        source = model if isinstance(model, (str, os.PathLike)) else export(model, folder / "dense", dense=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter")  # it has moved to another package
            _, content, difference = contents(str(source), values, representative)
        (folder / "new").write_bytes(content)
        os.replace(folder / "new", path)
    return dataclasses.replace(inspect_tflite(path), difference=difference)


def inspect_tflite(path: str | os.PathLike) -> TFLiteFile:
    """Which weights of a TFLite file, anybody's, are sparse and which run so, and why not.

    >>> print(tfsparse.inspect_tflite("out.tflite"))
    """
    from tfsparse.export import tflite_file  # late: it imports TensorFlow

    content = pathlib.Path(path).read_bytes()
    return TFLiteFile(pathlib.Path(path), len(content), tuple(tflite_file.tensors(content)))


def contents(source: str, values: str, representative=None) -> tuple[bytes, bytes, float]:
    """The dense file of a SavedModel, the sparse one, and the largest difference of its answers to the model's."""
    import tensorflow as tf

    from tfsparse.export import tflite_file

    loaded = tf.saved_model.load(source)
    if SIGNATURE not in loaded.signatures:
        raise ValueError(f'{source} has the signatures {sorted(loaded.signatures)}: expected "{SIGNATURE}" among them.')
    signature = loaded.signatures[SIGNATURE]
    batches = _batches(signature.structured_input_signature[1], representative)
    dense = convert(source, values, batches)
    sparse = tflite_file.sparsify(dense)
    answers = _answers(sparse, batches[:CHECKED])
    _check_equal(answers, _answers(dense, batches[:CHECKED]), values)
    return dense, sparse, _largest_difference(answers, [signature(**_tensors(batch)) for batch in batches[:CHECKED]])


def convert(source: str | os.PathLike, values: str = "float32", batches: Sequence[Mapping] = ()) -> bytes:
    """What TFLite's converter makes of a SavedModel, all weights dense; `batches` are examples for int8."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(source), signature_keys=[SIGNATURE])
    if values != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if values == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if values == "int8":
        converter.representative_dataset = lambda: batches
    return converter.convert()


def _batches(specs, representative):
    """One example after the other, as dicts of arrays by input; as many at once as a fixed first axis asks for."""
    arrays = _random(specs) if representative is None else _by_name(specs, _read(representative))
    size = next((spec.shape[0] for spec in specs.values() if spec.shape.rank), None) or 1
    count = min(map(len, arrays.values())) // size
    if count == 0:
        raise WrongExamples(f"representative has fewer examples than the batch of {size} that the model takes.")
    return [{name: array[i * size : (i + 1) * size] for name, array in arrays.items()} for i in range(count)]


def _read(representative):
    """The examples themselves."""
    if not isinstance(representative, (str, os.PathLike)):
        return representative
    try:
        found = np.load(representative)
    except (OSError, ValueError, EOFError) as error:
        raise WrongExamples(f"{representative} is not a file of numpy.save or savez with examples: {error}") from error
    return found if isinstance(found, np.ndarray) else dict(found)


def _by_name(specs, representative):
    if not isinstance(representative, Mapping):
        representative = {next(iter(specs)): representative} if len(specs) == 1 else {}
    if set(representative) != set(specs):
        raise WrongExamples(
            f"The model's inputs are {sorted(specs)}: expected representative={{name: array, ...}} with each of them."
        )
    arrays = {name: np.asarray(array, specs[name].dtype.as_numpy_dtype) for name, array in representative.items()}
    for name, array in arrays.items():
        if not specs[name].shape[1:].is_compatible_with(array.shape[1:]):
            raise WrongExamples(f"representative has {array.shape} for {name!r}: expected {tuple(specs[name].shape)}.")
    return arrays


def _random(specs):
    """Seeded numbers where the user gave none."""
    random, arrays = np.random.default_rng(0), {}
    for name, spec in specs.items():
        if not spec.shape[1:].is_fully_defined():
            raise ValueError(f"Input {name!r} has the open shape {tuple(spec.shape)}: pass representative=<examples>.")
        shape = (CHECKED * (spec.shape[0] or 1), *spec.shape[1:])
        numbers = random.normal(size=shape) if spec.dtype.is_floating else np.zeros(shape)
        arrays[name] = numbers.astype(spec.dtype.as_numpy_dtype)
    return arrays


def _tensors(batch):
    import tensorflow as tf

    return {name: tf.constant(array) for name, array in batch.items()}


def _answers(content, batches):
    """What the interpreter with its default kernels says, as dicts of arrays by output."""
    import tensorflow as tf

    runner = tf.lite.Interpreter(model_content=content).get_signature_runner(SIGNATURE)
    return [runner(**batch) for batch in batches]


def _largest_difference(answers, expected):
    """Over all outputs and examples; NaN if there is one."""
    pairs = zip(answers, expected, strict=True)
    return max(float(np.max(np.abs(a[name] - np.asarray(e[name])))) for a, e in pairs for name in e)


def _check_equal(sparse, dense, values):
    largest = max(float(np.max(np.abs(array))) for answer in dense for array in answer.values())
    difference = _largest_difference(sparse, dense)
    if not difference <= TOLERANCE * largest:
        raise RuntimeError(
            f"With sparse weights TFLite's answers differ by {difference:.3g} from those with dense weights, of which "
            f'the largest is {largest:.3g}: its kernels cannot run this model sparse with values="{values}". '
            'Write values="float32", or convert it dense with tf.lite.TFLiteConverter.'
        )


def _check_options(path, values, representative):
    if path.exists():
        raise ValueError(f"{path} exists already: remove it or export to another path.")
    if values not in packing.VALUES:
        raise ValueError(f'values={values!r} is not known: expected "float32", "float16" or "int8".')
    if values == "int8" and representative is None:
        raise ValueError(
            'values="int8" scales activations by what the model does with examples: write export_tflite(..., '
            'values="int8", representative=x[:200]) with some that it was trained on.'
        )
