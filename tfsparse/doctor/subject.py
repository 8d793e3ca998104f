"""Who is examined: a Keras model, a TFLite file, or a SavedModel."""

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
from tfsparse.structured import Channels, constant_channels


class Subject(abc.ABC):
    """Weights, and what a target needs to write them down in its forms.

    Attributes:
        name: what the diagnosis calls it.
        kind: what it is read from, in words.
    """

    name: str
    kind: str

    @classmethod
    @abc.abstractmethod
    def knows(cls, path: pathlib.Path) -> bool:
        """Is this the path of such a one?"""

    @classmethod
    @abc.abstractmethod
    def read(cls, path: pathlib.Path) -> "Subject":
        """What stands there. Raises: ValueError if it cannot be read."""

    @abc.abstractmethod
    def weights(self) -> list[Weight]:
        """All of rank 2 and more."""


class KerasSubject(Subject):
    """A model, read from a file or given. `saved` says whether a `.keras` file is what somebody looks at."""

    kind = "a Keras 3 model, a run directory or a .keras file"

    @classmethod
    def knows(cls, path):
        return not (FileSubject.knows(path) or SavedModelSubject.knows(path))

    @classmethod
    def read(cls, path):
        return cls(_read(path), saved=True)

    def __init__(self, model: keras.Model, saved: bool = False):
        self.model, self.name, self.saved = model, model.name, saved

    def weights(self):
        pairs = weights.of_model(self.model)
        if self._graph is None:
            return [weight for _, weight in pairs]
        fixed = {id(s.variable): g.frozen for g in self._graph.groups if g.frozen for s in g.outputs}
        idle = {id(s.variable): float(np.mean(~self._alive[s.ids])) for g in self._graph.groups for s in g.outputs}
        return [dataclasses.replace(w, fixed=fixed.get(id(v), ""), idle=idle.get(id(v))) for v, w in pairs]

    def idle_channels(self) -> tuple[int, int]:
        """How many channels `tfsparse.shrink` removes, and of how many; (0, 0) if there is no graph of layers."""
        if self._graph is None:
            return 0, 0
        ids = np.unique(np.concatenate([g.channels for g in self._graph.groups] or [np.zeros(0, int)]))
        return int(np.sum(~self._alive[ids])), len(ids)

    @functools.cached_property
    def _graph(self):
        try:
            return Channels(self.model)
        except ValueError:
            return None

    @functools.cached_property
    def _alive(self):
        return constant_channels.needed(self._graph)

    def saved_model(self, folder: pathlib.Path) -> pathlib.Path:
        """A directory that holds it as a SavedModel, dense."""
        return export(self.model, folder / "dense", dense=True)

    def tflite(self, folder: pathlib.Path) -> dict[str, bytes]:
        """The dense TFLite file and the sparse one, by name."""
        return _two_files(tflite.convert(self.saved_model(folder)))


class FileSubject(Subject):
    """A TFLite file, anybody's."""

    kind = "a .tflite file"
    hint = ' About a TFLite file ask target="tflite-cpu".'

    @classmethod
    def knows(cls, path):
        return path.suffix == ".tflite"

    @classmethod
    def read(cls, path):
        return cls(path.name, path.read_bytes())

    def __init__(self, name: str, content: bytes):
        self.name, self._content = name, content

    def weights(self):
        return weights.of_file(self._content)

    def tflite(self, folder: pathlib.Path) -> dict[str, bytes]:
        """The file, and beside it the sparse one if something in it is to be made sparse."""
        from tfsparse.export import tflite_file

        sparse = tflite_file.sparsify(self._content)
        found = {"the file": self._content}
        return found if sparse is self._content else found | {"the file, sparse by tfsparse": sparse}


class SavedModelSubject(Subject):
    """The directory of a SavedModel, anybody's."""

    kind = "the directory of a SavedModel"
    hint = ' About a SavedModel ask target="savedmodel".'

    @classmethod
    def knows(cls, path):
        return (path / "saved_model.pb").is_file()

    @classmethod
    def read(cls, path):
        from tfsparse.export import rewriting

        if rewriting.is_packed(path):
            raise ValueError(
                f"{path} was written by tfsparse.export, and its sparse weights lie packed in it: it is as small as it "
                "gets. Ask about the model that it was made of."
            )
        return cls(path)

    def __init__(self, path: pathlib.Path):
        self.name, self._path = path.name, path

    def weights(self):
        from tfsparse.export import rewriting

        return weights.of_arrays(rewriting.weights(self._path))

    def saved_model(self, folder: pathlib.Path) -> pathlib.Path:
        """The directory."""
        return self._path


class ConvertedSubject(Subject):
    """The directory of a SavedModel, as `tfsparse.export_tflite` makes a file of it."""

    kind = SavedModelSubject.kind

    @classmethod
    def knows(cls, path):
        return SavedModelSubject.knows(path)

    @classmethod
    def read(cls, path):
        source = SavedModelSubject.read(path)
        try:
            return cls(source.name, _two_files(tflite.convert(path)))
        except Exception as error:  # whatever the converter makes of it
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"TFLite's converter makes no file of {path}: {reason}") from error

    def __init__(self, name: str, files: dict[str, bytes]):
        self.name, self._files = name, files

    def weights(self):
        *_, sparse = self._files.values()
        return weights.of_file(sparse)

    def tflite(self, folder: pathlib.Path) -> dict[str, bytes]:
        """The dense TFLite file and the sparse one, by name."""
        return self._files


def _two_files(dense):
    from tfsparse.export import tflite_file

    return {"dense": dense, "sparse by tfsparse.export_tflite": tflite_file.sparsify(dense)}


def of(model: keras.Model | str | os.PathLike, kinds: Sequence[type[Subject]], what: str) -> Subject:
    """What stands behind a model, a run directory or the path of a file, as the first of some kinds that it can be.

    Raises: ValueError if it is none of these, and so cannot be `what`, or cannot be read.
    """
    if isinstance(model, keras.Model):
        return KerasSubject(model)
    expected = ", or ".join(kind.kind for kind in kinds)
    if not isinstance(model, (str, os.PathLike)):
        hint = "Of a tf_keras model write tfsparse.tfmot.to_keras3(model)."
        raise ValueError(f"Expected {expected}, got {model!r}. {hint}")
    path = pathlib.Path(model)
    for kind in kinds:
        if kind.knows(path):
            return kind.read(path)
    hint = next((kind.hint for kind in (FileSubject, SavedModelSubject) if kind.knows(path)), "")
    raise ValueError(f"{path} cannot be {what}: expected {expected}.{hint}")


def _read(path):
    """The model, with its optimizer if that can be had: losses and metrics of the user's need not be known here."""
    path = path / "model.keras" if path.is_dir() else path
    try:
        return run_directory.read_model(path)
    except run_directory.RunError:
        return run_directory.read_model(path, compiled=False)
