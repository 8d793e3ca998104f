"""A TFLite file of a trained model: sparse where that makes it smaller, and run sparse where TFLite can."""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
import warnings
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfsparse.backend import files
from tfsparse.backend.registry import check_choice
from tfsparse.backend.tables import Column, Printed, count, make_table, percent
from tfsparse.export.saved_model import write_for_tflite

VALUES = ("float32", "float16", "int8")
NUM_COMPARED = 16  # examples on which outputs are compared
_HINTS = {  # what to write, by a word in what TFLite says
    "TensorListReserve": ". Recurrent layers need a fixed batch: build the model with keras.Input(..., batch_size=1), "
    "and pass it, not its SavedModel."
}
SIGNATURE = "serving_default"
TOLERANCE = 1e-4  # between outputs of the sparse and the dense file, relative to the largest: sums in another order
_FLOATS, _TEXTS = "fcV", "OSU"  # kinds of dtypes; bfloat16 is a V
COLUMNS = (Column("weight", "name"), "shape", "dtype", Column("zeros", "sparsity", percent, "right"), "stored")
COLUMNS += (Column("bytes", "bytes", count, "right"), Column("dense", "dense_bytes", count, "right"), "runs", "why")


class WrongExamples(ValueError):
    """The `representative` examples do not fit the model."""


class NotConvertible(ValueError, RuntimeError):
    """TFLite cannot convert a model, or cannot run it rightly; the message says why."""


@dataclasses.dataclass(frozen=True, repr=False)
class TFLiteFile(Printed):
    """The weights in a TFLite file. `print` shows them as a table.

    Args:
        path: Path of the file.
        bytes: Its size.
        tensors: One `Tensor` for each weight of rank >= 2: how it is `stored` and how it `runs`, "sparse" or "dense",
            and `why` it does not run sparse.
        difference: Largest difference between outputs of the file and of the model; None if it was only inspected.

    Examples:
        >>> file = tfsparse.inspect_tflite("out.tflite"); print(file); file.as_dict()["tensors"]
    """

    width = 150
    path: pathlib.Path
    bytes: int
    tensors: tuple
    difference: float | None = None

    def table(self):
        """Return a `rich.table.Table`."""
        table = make_table(COLUMNS, self.tensors, title=f"{self.path}: {self.bytes:,} bytes")
        if self.difference is not None:
            table.caption = f"largest difference to the model's outputs: {self.difference:.2g}"
        return table


def export_tflite(
    model: keras.Model | str | os.PathLike,
    path: str | os.PathLike,
    values: str = "float32",
    representative: np.ndarray | Mapping[str, np.ndarray] | str | os.PathLike | None = None,
) -> TFLiteFile:
    """Write a TFLite file in which sparse weights take few bytes, and Dense layers pruned in blocks take little time.

        Dense, float32, >= 75 % of blocks (1, 4) empty:           stored sparse, runs sparse
        other Dense layers, convolutions, if smaller by a fifth:  stored sparse, unpacked when the interpreter is made
        everything else:                                          dense

    Before the file appears, it is run on examples. Its outputs must be those of a dense TFLite file. The largest
    difference between its outputs and the model's is part of the result. The file appears whole or not at all.

    Args:
        model: A Keras 3 model on the TensorFlow backend, or a tf_keras model. Or the directory of a SavedModel, of
            which the signature "serving_default" is taken.
        path: The new file.
        values: "float32"; "float16", which rounds weights; or "int8", where weights and activations are integers, and
            inputs and outputs are float32. Zeros stay zero in all of them. Only float32 runs sparse.
            Default: "float32".
        representative: A hundred or more examples of the model's inputs along the first axis: an array, a dict of
            arrays by the name of the input, or the path of a file that `numpy.save` or `numpy.savez` wrote. "int8"
            requires them, to scale activations. Outputs are compared on the first 16 of them. Default: None, for
            seeded random numbers.

    Returns:
        The weights in the file, and the largest difference of its outputs.

    Raises:
        ValueError: If `path` exists, if pruned weights are not zero where their masks are, or if `representative` is
            missing or does not fit the model.
        RuntimeError: If TFLite cannot convert the model, or returns other outputs with sparse weights than with dense
            ones. It is a ValueError, too.

    Examples:
        >>> print(tfsparse.export_tflite(model, "out.tflite"))
        >>> tfsparse.export_tflite(model, "out8.tflite", values="int8", representative=x[:200])
    """
    path = pathlib.Path(path)
    _check_options(path, values, representative)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, _errors_naming(model):  # not beside a `path` with [ in it
        source = write_for_tflite(model, pathlib.Path(folder, "dense"))
        _, content, difference = convert_and_check(str(source), values, representative)
    files.write(path, lambda new: new.write_bytes(content))
    return dataclasses.replace(inspect_tflite(path), difference=difference)


def inspect_tflite(path: str | os.PathLike) -> TFLiteFile:
    """Return which weights of any TFLite file are sparse, which run sparse, and why the others do not.

    Args:
        path: A TFLite file, whoever wrote it.

    Returns:
        The weights in the file.

    Raises:
        ValueError: If it is no TFLite file or is damaged, or if it has a sparse weight in a form that neither tfsparse
            nor TFLite's converter writes.

    Examples:
        >>> print(tfsparse.inspect_tflite("out.tflite"))
    """
    from tfsparse.export import tflite_file  # not at the top: it imports TensorFlow

    content = pathlib.Path(path).read_bytes()
    with tflite_file.errors_naming(path):
        return TFLiteFile(pathlib.Path(path), len(content), tuple(tflite_file.tensors(content)))


def convert_and_check(source: str, values: str, representative=None) -> tuple[bytes, bytes, float]:
    """Return the dense file of a SavedModel, the sparse file, and the largest difference of its outputs to the model's.

    Args:
        source: Directory of the SavedModel.
        values: "float32", "float16" or "int8".
        representative: The examples, or None.

    Returns:
        The two files, and the difference.

    Raises:
        ValueError: If the SavedModel has no signature "serving_default", or the examples do not fit it.
        NotConvertible: If TFLite cannot convert the model, or returns other outputs with sparse weights than with
            dense ones.
    """
    import tensorflow as tf

    from tfsparse.export import loading, tflite_file

    loaded = loading.load(source)
    if SIGNATURE not in loaded.signatures:
        raise ValueError(f'{source} has the signatures {sorted(loaded.signatures)}: expected "{SIGNATURE}" among them.')
    signature = loaded.signatures[SIGNATURE]
    batches = _batches(signature.structured_input_signature[1], representative)
    if values == "int8":
        _check_ranges(convert(source), batches)
    dense, compared = convert(source, values, batches), batches[:NUM_COMPARED]
    sparse = tflite_file.sparsify(dense)
    outputs = _outputs(sparse, compared)
    _check_equal(outputs, _outputs(dense, compared), values)
    expected = [signature(**{name: tf.constant(array) for name, array in batch.items()}) for batch in compared]
    return dense, sparse, _largest_difference(outputs, expected)


@contextlib.contextmanager
def _without_interpreter_warning():
    """Hide the warning that TFLite's interpreter has moved to another package."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter")
        yield


@contextlib.contextmanager
def _errors_of(part):
    """Turn what a part of TFLite raises, which are many kinds, into one, without the position in the graph."""
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        hint = next((hint for word, hint in _HINTS.items() if word in str(error)), "")
        raise NotConvertible(f"TFLite's {part}: {lines[0].rsplit('): ', 1)[-1]}{hint}") from error


@contextlib.contextmanager
def _errors_naming(model):
    """Say in the errors of TFLite which model or directory it was."""
    try:
        yield
    except NotConvertible as error:
        name = model if isinstance(model, (str, os.PathLike)) else repr(model.name)
        raise NotConvertible(f"{name} cannot be made a TFLite file. {error}") from error


@_errors_of("converter")
@_without_interpreter_warning()
def convert(source: str | os.PathLike, values: str = "float32", batches: Sequence[Mapping] = ()) -> bytes:
    """Return the dense file that TFLite's converter makes of a SavedModel.

    Args:
        source: Directory of the SavedModel.
        values: "float32", "float16" or "int8". Default: "float32".
        batches: Examples for int8, dicts of arrays by the name of the input. Default: none.

    Returns:
        Content of the file.

    Raises:
        NotConvertible: If the converter cannot do it.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(source), signature_keys=[SIGNATURE])
    if values != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if values == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if values == "int8":
        converter.representative_dataset = lambda: batches
    return converter.convert()


@_without_interpreter_warning()
def interpreter(content: bytes, **options):
    """Return TFLite's interpreter of a file.

    Args:
        content: Content of the file.
        **options: Other arguments of `tf.lite.Interpreter`.

    Returns:
        The interpreter.
    """
    import tensorflow as tf

    return tf.lite.Interpreter(model_content=content, **options)


def _batches(specs, representative):
    """Return the examples as a list of dicts of arrays.

    An input gets as many as its first axis fixes; if that is open, as many as another input, or 1. One without axes
    gets one.

    Raises:
        WrongExamples: If they do not fit the inputs.
    """
    arrays = _random(specs) if representative is None else _by_name(specs, _read(representative))
    fixed = {name: spec.shape[0] for name, spec in specs.items() if spec.shape.rank and spec.shape[0]}
    common = next(iter(fixed.values()), 1)
    sizes = {name: 1 if spec.shape.rank == 0 else fixed.get(name, common) for name, spec in specs.items()}
    num_batches = min(len(array) // sizes[name] for name, array in arrays.items())
    if num_batches == 0:
        raise WrongExamples(f"representative has fewer examples than the batch of {common} that the model takes.")

    def batch(i, name, array):
        return array[i] if specs[name].shape.rank == 0 else array[i * sizes[name] : (i + 1) * sizes[name]]

    return [{name: batch(i, name, array) for name, array in arrays.items()} for i in range(num_batches)]


def _read(representative):
    """Return the examples, read from a file if they are a path."""
    if not isinstance(representative, (str, os.PathLike)):
        return representative
    try:
        with open(representative, "rb") as file:
            loaded = np.load(file)
            return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # NumPy raises what its tokenizer or zipfile happened to raise
        raise WrongExamples(f"{representative} is not a file of numpy.save or savez with examples: {error}") from error


def _by_name(specs, representative):
    if not isinstance(representative, Mapping):
        representative = {next(iter(specs)): representative} if len(specs) == 1 else {}
    if set(representative) != set(specs):
        raise WrongExamples(
            f"The model's inputs are {sorted(specs)}: expected representative={{name: array, ...}} with each of them."
        )
    arrays = {name: _as_input(array, name, specs[name].dtype) for name, array in representative.items()}
    for name, array in arrays.items():
        if not array.shape or not specs[name].shape[1:].is_compatible_with(array.shape[1:]):
            raise WrongExamples(f"representative has {array.shape} for {name!r}: expected {tuple(specs[name].shape)}.")
    return arrays


def _as_input(array, name, dtype):
    try:
        array = np.asarray(array, dtype.as_numpy_dtype)
    except (TypeError, ValueError) as error:
        raise WrongExamples(f"representative for {name!r} is not an array of {dtype.name}: {error}") from error
    if dtype.is_floating and not np.isfinite(array).all():
        raise WrongExamples(f"representative for {name!r} holds NaN or infinity: leave those examples out.")
    return array


def _random(specs):
    """Return seeded random numbers as examples; zeros for integers, empty texts."""
    random, arrays = np.random.default_rng(0), {}
    for name, spec in specs.items():
        if not spec.shape[1:].is_fully_defined():
            raise ValueError(f"Input {name!r} has the open shape {tuple(spec.shape)}: pass representative=<examples>.")
        shape = (NUM_COMPARED * (spec.shape[0] or 1), *spec.shape[1:]) if spec.shape.rank else (NUM_COMPARED,)
        numbers = random.normal(size=shape) if spec.dtype.is_floating else np.zeros(shape)
        is_text = spec.dtype.as_numpy_dtype is object
        arrays[name] = np.full(shape, b"", object) if is_text else numbers.astype(spec.dtype.as_numpy_dtype)
    return arrays


@_errors_of("interpreter")
def _outputs(content, batches):
    """Return the outputs of a file for each batch, as dicts of arrays by the name of the output."""
    runner = interpreter(content).get_signature_runner(SIGNATURE)
    return [runner(**batch) for batch in batches]


def _check_ranges(content, batches):
    """Refuse examples on which a tensor of a float32 file has a range that is not finite.

    int8 scales every tensor by its range, and the converter crashes at one that float32 does not hold.

    Raises:
        NotConvertible: If there is such a tensor.
    """
    for name, low, high in _ranges(content, batches):
        if not high - low < float(np.finfo("float32").max):  # TFLite writes its largest number for infinity
            raise NotConvertible(
                f'values="int8" scales {name!r} by its range, which is {low:.3g} to {high:.3g} on these examples: '
                'leave out those that lead to such numbers, or write values="float16".'
            )


@_errors_of("interpreter")
def _ranges(content, batches):
    """Return names and ranges of all float32 tensors of a file, those between its operations too."""
    import tensorflow as tf

    resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # delegates keep theirs
    made = interpreter(content, experimental_op_resolver_type=resolver, experimental_preserve_all_tensors=True)
    runner = made.get_signature_runner(SIGNATURE)
    names, lows, highs = {}, {}, {}
    for batch in batches:
        runner(**batch)
        for tensor in made.get_tensor_details():
            if tensor["dtype"] is np.float32:
                index, array = tensor["index"], made.get_tensor(tensor["index"])
                names[index] = tensor["name"]
                lows[index] = np.minimum(lows.get(index, 0.0), np.min(array, initial=0))
                highs[index] = np.maximum(highs.get(index, 0.0), np.max(array, initial=0))
    return [(name, float(lows[index]), float(highs[index])) for index, name in names.items()]


def _largest_difference(outputs, expected):
    """Return the largest difference over all outputs and examples; infinity where only one is NaN or infinite."""
    pairs = zip(outputs, expected, strict=True)
    return max((_difference(o[name], e[name]) for o, e in pairs for name in e), default=0.0)


def _difference(one, other):
    """Return the largest difference of two arrays of numbers, booleans or texts, which may be empty."""
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return np.inf
    differ = ~((one == other) | ((one != one) & (other != other)))  # NaN equals NaN
    if one.dtype.kind in _TEXTS:
        return np.inf if differ.any() else 0.0
    wide = "complex128" if one.dtype.kind == "c" else "float64"
    differences = np.abs(one[differ].astype(wide) - other[differ].astype(wide))
    return float(np.max(np.nan_to_num(differences, nan=np.inf, posinf=np.inf), initial=0.0))


def _check_equal(sparse, dense, values):
    """Refuse outputs that differ: floats by more than the order of additions explains, all others at all."""
    floats = [array for outputs in dense for array in outputs.values() if array.dtype.kind in _FLOATS]
    sizes = [np.abs(array).astype("float64") for array in floats]
    largest = max((np.max(size, initial=0.0, where=np.isfinite(size)) for size in sizes), default=0.0)
    pairs = [(s[name], d[name]) for s, d in zip(sparse, dense, strict=True) for name in d]
    differences = [(_difference(s, d), TOLERANCE * largest if d.dtype.kind in _FLOATS else 0.0) for s, d in pairs]
    difference = max((value for value, allowed in differences if value > allowed), default=None)
    if difference is not None:
        raise NotConvertible(
            f"With sparse weights TFLite's outputs differ by {difference:.3g} from those with dense weights, of which "
            f'the largest is {largest:.3g}: its kernels cannot run this model sparse with values="{values}". '
            'Write values="float32", or convert it dense with tf.lite.TFLiteConverter.'
        )


def _check_options(path, values, representative):
    if path.exists():
        raise ValueError(f"{path} exists already: remove it, or export to another path.")
    check_choice("values", values, VALUES)
    if values == "int8" and representative is None:
        raise ValueError(
            'values="int8" needs examples to scale activations. Write export_tflite(..., values="int8", '
            "representative=x[:200]) with some that the model was trained on."
        )
