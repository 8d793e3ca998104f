"""Who is examined: a Keras model, or a TFLite file."""

import abc
import dataclasses
import functools
import os
import pathlib

import keras
import numpy as np

from tfsparse import runs
from tfsparse.doctor import weights
from tfsparse.doctor.weights import Weight
from tfsparse.export import export
from tfsparse.structure import Channels, constants


class Subject(abc.ABC):
    """Weights, and what a target needs to write them down in its forms.

    Attributes: name: what the diagnosis calls it.
    """

    name: str

    @abc.abstractmethod
    def weights(self) -> list[Weight]:
        """All of rank 2 and more."""

    @abc.abstractmethod
    def tflite(self, folder: pathlib.Path) -> dict[str, bytes]:
        """The dense TFLite file and the sparse one, by name; one where there is nothing to make sparse."""


class KerasSubject(Subject):
    """A model, read from a file or given. `saved` says whether a `.keras` file is what somebody looks at."""

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
        return constants.needed(self._graph)

    def tflite(self, folder):
        import tensorflow as tf

        from tfsparse.export import tflite_file

        dense = export(self.model, folder / "dense", dense=True)
        content = tf.lite.TFLiteConverter.from_saved_model(str(dense), signature_keys=["serving_default"]).convert()
        return {"dense": content, "sparse by tfsparse.export_tflite": tflite_file.sparsify(content)}


class FileSubject(Subject):
    """A TFLite file, anybody's."""

    def __init__(self, path: pathlib.Path):
        self._content, self.name = path.read_bytes(), path.name

    def weights(self):
        return weights.of_file(self._content)

    def tflite(self, folder):
        from tfsparse.export import tflite_file

        sparse = tflite_file.sparsify(self._content)
        found = {"the file": self._content}
        return found if sparse is self._content else found | {"the file, sparse by tfsparse": sparse}


def of(model: keras.Model | str | os.PathLike) -> Subject:
    """What stands behind a model, a run directory or the path of a file.

    Raises: ValueError if it is none of these, or cannot be read.
    """
    if isinstance(model, keras.Model):
        return KerasSubject(model)
    if not isinstance(model, (str, os.PathLike)):
        raise ValueError(
            f"Expected a Keras 3 model, a run directory, or the path of a .keras or .tflite file, got {model!r}. "
            "Of a tf_keras model write tfsparse.tfmot.to_keras3(model)."
        )
    path = pathlib.Path(model)
    if path.suffix == ".tflite":
        return FileSubject(path)
    return KerasSubject(_read(path), saved=True)


def _read(path):
    """The model, with its optimizer if that can be had: losses and metrics of the user's need not be known here."""
    path = path / "model.keras" if path.is_dir() else path
    try:
        return runs.read_model(path)
    except runs.RunError:
        return runs.read_model(path, compiled=False)
