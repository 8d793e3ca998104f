"""The examples that densities are measured on, and training examples in an order that only the epoch decides."""

import math

import keras
import numpy as np
from keras import ops, tree


class Shuffled(keras.utils.PyDataset):
    """Arrays as batches whose order is a function of the seed and the epoch, so that a resumed training sees what it
    would have seen. Keras's own shuffling begins anew with every `fit`.

    Args:
        arrays: `(x,)`, `(x, y)` or `(x, y, sample_weight)` of arrays or nests of arrays.
        batch_size, seed: whole numbers.
    """

    def __init__(self, arrays: tuple, batch_size: int, seed: int):
        super().__init__()
        self._arrays = tree.map_structure(_standard, arrays)
        self._batch_size, self._seed = batch_size, seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """The next batches are those of this epoch."""
        self._order = np.random.default_rng([self._seed, epoch]).permutation(_rows(self._arrays))

    def __len__(self):
        return math.ceil(len(self._order) / self._batch_size)

    def __getitem__(self, index):
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return tree.map_structure(lambda array: array[rows], self._arrays)


class Source:
    """What `model.fit` is given, with arrays in an order of ours and `x` asked for if it is a function.

    Args:
        given: the arguments of `fit`, but for epochs and callbacks.
        seed: of the order of arrays.
    """

    def __init__(self, given: dict, seed: int):
        self._given, self._asked = dict(given), None
        self._rows = tuple(given[name] for name in ("x", "y", "sample_weight") if given[name] is not None)
        self._in_order = are_arrays(self._rows) and not (given["y"] is None and len(self._rows) > 1)
        if self._in_order:
            self._split()
            if given["shuffle"] is True and not given.get("steps_per_epoch"):
                self._shuffle(seed)

    def __call__(self, epoch: int) -> dict:
        """The arguments for a stage that begins with this epoch."""
        if not callable(self._given["x"]):
            return self._given
        if self._asked is None or self._asked[0] != epoch:
            self._asked = epoch, self._given["x"](epoch)
        return self._given | {"x": self._asked[1]}

    def inputs(self, epoch: int, count: int, kept) -> tuple:
        """The first inputs, and their batch size; `kept(make)` remembers what cannot be read again."""
        if self._in_order:
            return first_of(self._rows[0], count, self._given["batch_size"] or 32)
        return kept(lambda: first_of(self(epoch)["x"], count))

    def _split(self):
        if self._given["validation_split"] and self._given["validation_data"] is None:
            self._rows, validation = split(self._rows, self._given["validation_split"])
            self._given |= zip(("x", "y", "sample_weight"), self._rows, strict=False)
            self._given |= {"validation_data": validation, "validation_split": 0.0}

    def _shuffle(self, seed):
        shuffled = Shuffled(self._rows, self._given["batch_size"] or 32, seed)
        self._given |= {"x": shuffled, "y": None, "sample_weight": None, "shuffle": False}


def are_arrays(data) -> bool:
    """True for arrays and tensors of numbers, and nests of them, all with as many rows."""
    leaves = [leaf for leaf in tree.flatten(data) if leaf is not None]
    return bool(leaves) and all(map(_is_array, leaves)) and len({a.shape[0] for a in leaves}) == 1


def _is_array(leaf):
    if isinstance(leaf, np.ndarray):
        return leaf.ndim > 0 and leaf.dtype.kind in "biuf"
    return ops.is_tensor(leaf) and len(leaf.shape) > 0 and keras.backend.standardize_dtype(leaf.dtype) != "string"


def split(arrays: tuple, fraction: float) -> tuple[tuple, tuple]:
    """Arrays for training and, the last ones, for validation, as `fit(validation_split=fraction)` splits them."""
    at = math.floor(_rows(arrays) * (1 - fraction))
    return tuple(tree.map_structure(lambda a, part=part: a[part], arrays) for part in (slice(at), slice(at, None)))


def first_of(data, count: int, batch_size: int = 32) -> tuple:
    """The inputs of the first examples of `data`, as arrays, and the batch size that they come in.

    Args:
        data: arrays of inputs, or an iterable of batches, whose first element is the inputs: a `tf.data.Dataset`, a
            `PyDataset`.

    Raises: TypeError for a generator, whose examples would be lost for training.
    """
    if are_arrays(data):
        return tree.map_structure(lambda a: _standard(a[:count]), data), batch_size
    if not hasattr(data, "__iter__") or hasattr(data, "__next__"):
        raise TypeError(
            f"Densities cannot be measured on the first {count} examples of {type(data).__name__}: reading them would "
            "take them away from the training. Pass inputs: ActivationDensity(model, data=x[:5000])."
        )
    batches, rows = [], 0
    for batch in data:
        inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
        batches.append(tree.map_structure(_standard, inputs))
        rows += _rows(batches[-1])
        if rows >= count:
            break
    whole = tree.map_structure(lambda *parts: np.concatenate(parts)[:count], *batches)
    return whole, _rows(batches[0])


def _rows(arrays):
    return tree.flatten(arrays)[0].shape[0]


def _standard(array):
    """A NumPy array, of Keras's float type if it has float64."""
    array = array if isinstance(array, np.ndarray) else ops.convert_to_numpy(array)
    return array.astype(keras.config.floatx()) if array.dtype == np.float64 else array
