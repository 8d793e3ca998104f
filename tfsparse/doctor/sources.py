"""What can be diagnosed: a Keras model, a TFLite file, or a SavedModel."""

import abc
import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence

import keras
import numpy as np

from tfsparse.backend import run_directory
from tfsparse.doctor import weights
from tfsparse.doctor.weights import Weight
from tfsparse.export import tflite
from tfsparse.export.saved_model import export
from tfsparse.structured import constant_channels
from tfsparse.structured.channels import Channels


class Source(abc.ABC):
    """The weights of a model, and what a target needs to write the model in its forms.

    Attributes:
        name: What the diagnosis calls the model.
        kind: What it is read from, in words, for error messages.
        hint: What an error message adds for a path that this class reads and the target does not accept.
    """

    name: str
    kind: str
    hint = ""

    @classmethod
    @abc.abstractmethod
    def accepts(cls, path: pathlib.Path) -> bool:
        """Return whether this class reads a path."""

    @classmethod
    @abc.abstractmethod
    def read(cls, path: pathlib.Path) -> "Source":
        """Return the source at a path, or raise a ValueError if it cannot be read."""

    @abc.abstractmethod
    def weights(self) -> list[Weight]:
        """Return all weights of rank >= 2."""


class KerasSource(Source):
    """A Keras 3 model.

    Args:
        model: The model.
        is_file: Whether it was read from a `.keras` file. Default: False.
    """

    kind = "a Keras 3 model, a run directory or a .keras file"

    @classmethod
    def accepts(cls, path):
        return not (TFLiteSource.accepts(path) or SavedModelSource.accepts(path))

    @classmethod
    def read(cls, path):
        path = path / "model.keras" if path.is_dir() else path
        try:
            return cls(run_directory.read_model(path), is_file=True)
        except run_directory.RunError:  # perhaps only the losses or metrics of the user are unknown here
            return cls(run_directory.read_model(path, compiled=False), is_file=True)

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

    def tflite_files(self, folder: pathlib.Path) -> dict[str, bytes]:
        """Return the dense TFLite file and the sparse one, by name."""
        return _dense_and_sparse(tflite.convert(self.saved_model(folder)))


class TFLiteSource(Source):
    """A TFLite file, whoever wrote it.

    Args:
        name: Its name.
        content: Its bytes.
    """

    kind = "a .tflite file"
    hint = ' For a TFLite file write target="tflite-cpu".'

    @classmethod
    def accepts(cls, path):
        return path.suffix == ".tflite"

    @classmethod
    def read(cls, path):
        return cls(path.name, path.read_bytes())

    def __init__(self, name: str, content: bytes):
        self.name, self._content = name, content

    def weights(self):
        return weights.of_file(self._content)

    def tflite_files(self, folder: pathlib.Path) -> dict[str, bytes]:
        """Return the file, and the sparse one if a weight of the file can be made sparse."""
        from tfsparse.export import tflite_file

        sparse = tflite_file.sparsify(self._content)
        files = {"the file": self._content}
        return files if sparse is self._content else files | {"the file, sparse by tfsparse": sparse}


class SavedModelSource(Source):
    """The directory of a SavedModel, whoever wrote it."""

    kind = "the directory of a SavedModel"
    hint = ' For a SavedModel write target="savedmodel".'

    @classmethod
    def accepts(cls, path):
        return (path / "saved_model.pb").is_file()

    @classmethod
    def read(cls, path):
        from tfsparse.export import rewriting

        if rewriting.is_packed(path):
            raise ValueError(
                f"{path} was written by tfsparse.export and its sparse weights are packed: it cannot become smaller. "
                "Pass the model that it was made of."
            )
        return cls(path)

    def __init__(self, path: pathlib.Path):
        self.name, self._directory = path.name, path

    def weights(self):
        from tfsparse.export import rewriting

        return weights.of_arrays(rewriting.weights(self._directory))

    def saved_model(self, folder: pathlib.Path) -> pathlib.Path:
        """Return the directory."""
        return self._directory


class ConvertedSource(Source):
    """The directory of a SavedModel, as the TFLite files that are made of it.

    Args:
        name: Its name.
        files: The dense TFLite file and the sparse one, by name.
    """

    kind = SavedModelSource.kind

    @classmethod
    def accepts(cls, path):
        return SavedModelSource.accepts(path)

    @classmethod
    def read(cls, path):
        source = SavedModelSource.read(path)
        try:
            return cls(source.name, _dense_and_sparse(tflite.convert(path)))
        except Exception as error:  # the converter raises many kinds
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"TFLite's converter cannot convert {path}: {reason}") from error

    def __init__(self, name: str, files: dict[str, bytes]):
        self.name, self._files = name, files

    def weights(self):
        *_, sparse = self._files.values()
        return weights.of_file(sparse)

    def tflite_files(self, folder: pathlib.Path) -> dict[str, bytes]:
        """Return the dense TFLite file and the sparse one, by name."""
        return self._files


def _dense_and_sparse(dense):
    from tfsparse.export import tflite_file

    return {"dense": dense, "sparse by tfsparse.export_tflite": tflite_file.sparsify(dense)}


def read(model: keras.Model | str | os.PathLike, kinds: Sequence[type[Source]], purpose: str) -> Source:
    """Return the source of a model or a path.

    Args:
        model: A model; or the path of a file, a run directory or a SavedModel.
        kinds: The classes that may read it; the first that accepts it does.
        purpose: What for, in error messages, such as "trained".

    Returns:
        The source.

    Raises:
        ValueError: If none of the classes accepts it, or if it cannot be read.
    """
    if isinstance(model, keras.Model):
        return KerasSource(model)
    expected = ", or ".join(kind.kind for kind in kinds)
    if not isinstance(model, (str, os.PathLike)):
        hint = "For a tf_keras model write tfsparse.tfmot.to_keras3(model)."
        raise ValueError(f"Expected {expected}, got {model!r}. {hint}")
    path = pathlib.Path(model)
    for kind in kinds:
        if kind.accepts(path):
            return kind.read(path)
    hint = next((kind.hint for kind in (TFLiteSource, SavedModelSource) if kind.accepts(path)), "")
    raise ValueError(f"{path} cannot be {purpose}: expected {expected}.{hint}")
