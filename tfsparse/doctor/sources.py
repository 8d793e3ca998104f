"""What can be diagnosed: a Keras model, a TFLite file, or a SavedModel."""

import abc
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np

from tfsparse.backend import run_directory
from tfsparse.doctor import weights
from tfsparse.doctor.measurement import ForeignTFLiteForm, TFLiteForm
from tfsparse.doctor.weights import Weight
from tfsparse.export import tflite
from tfsparse.export.saved_model import export, write_for_tflite
from tfsparse.structured import constant_channels
from tfsparse.structured.channels import Channels


class Source(abc.ABC):
    """The weights of a model, and what a target needs to write the model in its forms.

    Attributes:
        name: What the diagnosis calls the model.
    """

    name: str

    @abc.abstractmethod
    def weights(self) -> list[Weight]:
        """Return all weights of rank >= 2."""


class KerasSource(Source):
    """A Keras 3 model.

    Args:
        model: The model.
        is_file: Whether it was read from a `.keras` file. Default: False.
    """

    def __init__(self, model: keras.Model, is_file: bool = False):
        self.model, self.name, self.is_file = model, model.name, is_file

    def weights(self):
        pairs = weights.of_model(self.model)
        if self._channels is None:
            return [weight for _, weight in pairs]
        outputs = [(id(s.variable), g, s) for g in self._channels.groups for s in g.outputs]
        fixed = {key: g.frozen for key, g, _ in outputs if g.frozen}
        removable = {key: float(np.mean(~self._is_needed[s.ids])) for key, _, s in outputs}
        return [
            dataclasses.replace(w, why_fixed=fixed.get(id(v), ""), removable=removable.get(id(v))) for v, w in pairs
        ]

    def num_removable_channels(self) -> tuple[int, int]:
        """Return how many channels `tfsparse.shrink` removes, and of how many; (0, 0) without a graph of layers."""
        if self._channels is None:
            return 0, 0
        ids = np.unique(np.concatenate([g.channels for g in self._channels.groups] or [np.zeros(0, int)]))
        return int(np.sum(~self._is_needed[ids])), len(ids)

    @functools.cached_property
    def _channels(self):
        try:
            return Channels(self.model)
        except ValueError:
            return None

    @functools.cached_property
    def _is_needed(self):
        return constant_channels.needed(self._channels)

    def saved_model(self, folder: pathlib.Path) -> pathlib.Path:
        """Write the dense SavedModel into a folder and return its directory."""
        return export(self.model, folder / "dense", dense=True)

    def tflite_forms(self, folder: pathlib.Path) -> list[TFLiteForm]:
        """Return the dense TFLite file and the sparse one."""
        return _dense_and_sparse(write_for_tflite(self.model, folder / "tflite"))


class TFLiteSource(Source):
    """A TFLite file, whoever wrote it.

    Args:
        name: Its name.
        found: Its weights.
        forms: What is measured: the dense file, and the sparse one if they differ.
    """

    def __init__(self, name: str, found: list[Weight], forms: list[TFLiteForm]):
        self.name, self._weights, self._forms = name, found, forms

    def weights(self):
        return self._weights

    def tflite_forms(self, folder: pathlib.Path) -> list[TFLiteForm]:
        """Return what is measured."""
        return self._forms


class SavedModelSource(Source):
    """The directory of a SavedModel, whoever wrote it."""

    def __init__(self, path: pathlib.Path):
        self.name, self._directory = path.name, path

    def weights(self):
        from tfsparse.export import rewriting  # not at the top: it imports TensorFlow

        return weights.of_arrays(rewriting.weights(self._directory))

    def saved_model(self, folder: pathlib.Path) -> pathlib.Path:
        """Return the directory."""
        return self._directory


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of path that a source is read from.

    Args:
        description: What it is, for error messages.
        accepts: Function that says whether a path is of this kind.
        read: Function that returns the source of a path, or raises a ValueError.
        hint: What an error message adds if the target does not take paths of this kind. Default: "".
    """

    description: str
    accepts: Callable[[pathlib.Path], bool]
    read: Callable[[pathlib.Path], Source]
    hint: str = ""


def _read_keras(path):
    path = path / "model.keras" if path.is_dir() else path
    try:
        return KerasSource(run_directory.read_model(path), is_file=True)
    except run_directory.RunError:  # perhaps only the losses or metrics of the user are unknown here
        return KerasSource(run_directory.read_model(path, compiled=False), is_file=True)


def _read_tflite(path):
    from tfsparse.export import tflite_file

    content = path.read_bytes()
    with tflite_file.errors_naming(path):
        found, sparse = weights.of_file(content), tflite_file.sparsify(content)
        files = {"the file": content} | ({} if sparse is content else {"the file, sparse by tfsparse": sparse})
        return TFLiteSource(path.name, found, [ForeignTFLiteForm.from_content(*file) for file in files.items()])


def _read_saved_model(path):
    from tfsparse.export import rewriting

    if rewriting.is_packed(path):
        raise ValueError(
            f"{path} was written by tfsparse.export and its sparse weights are packed: it cannot become smaller. "
            "Pass the model that it was made of."
        )
    return SavedModelSource(path)


def _convert_saved_model(path):
    source = _read_saved_model(path)
    try:
        forms = _dense_and_sparse(path)
    except tflite.NotConvertible as error:
        raise ValueError(f"{path} cannot be made a TFLite file. {error}") from error
    return TFLiteSource(source.name, weights.of_file(forms[-1].content), forms)


def _dense_and_sparse(directory):
    """Return the dense TFLite file of a SavedModel, and the sparse one."""
    from tfsparse.export import tflite_file

    dense = tflite.convert(directory)
    files = {"dense": dense, "sparse by tfsparse.export_tflite": tflite_file.sparsify(dense)}
    return [TFLiteForm.from_content(*file) for file in files.items()]


def _is_tflite(path):
    return path.suffix.lower() == ".tflite"


def _is_saved_model(path):
    return (path / "saved_model.pb").is_file()


_DIRECTORY = "the directory of a SavedModel"
TFLITE = Kind("a .tflite file", _is_tflite, _read_tflite, ' For a TFLite file write target="tflite-cpu".')
SAVED_MODEL = Kind(_DIRECTORY, _is_saved_model, _read_saved_model, ' For a SavedModel write target="savedmodel".')
CONVERTED = Kind(_DIRECTORY, _is_saved_model, _convert_saved_model)  # to TFLite files
KERAS = Kind(
    "a Keras 3 model, a run directory or a .keras file",
    lambda path: not (_is_tflite(path) or _is_saved_model(path)),
    _read_keras,
)


def read(
    model: keras.Model | str | os.PathLike, kinds: Sequence[Kind], purpose: str, others: Sequence[Kind] = ()
) -> Source:
    """Return the source of a model or a path.

    Args:
        model: A model; or the path of a file, a run directory or a SavedModel.
        kinds: The kinds of paths to read; the first that accepts the path does.
        purpose: What for, in error messages, such as "trained".
        others: Kinds that are read for another target; the error message has their `hint`. Default: none.

    Returns:
        The source.

    Raises:
        ValueError: If the path is of none of the kinds, or if it cannot be read.
    """
    if isinstance(model, keras.Model):
        return KerasSource(model)
    expected = ", or ".join(kind.description for kind in kinds)
    if not isinstance(model, (str, os.PathLike)):
        hint = "For a tf_keras model write tfsparse.tfmot.to_keras3(model)."
        raise ValueError(f"Expected {expected}, got {model!r}. {hint}")
    path = pathlib.Path(model)
    for kind in kinds:
        if kind.accepts(path):
            return kind.read(path)
    hint = next((kind.hint for kind in others if kind.accepts(path)), "")
    raise ValueError(f"{path} cannot be {purpose}: expected {expected}.{hint}")
