"""The data of a training in stages: arrays in an order of the epoch, and fixed examples to measure on."""

import math

import keras
import numpy as np
from keras import ops, tree


class ShuffledArrays(keras.utils.PyDataset):
    """Batches of arrays in an order that depends on the seed and the epoch only, so that a resume sees the same.

    Keras's own shuffling starts anew with every `fit`.

    Args:
        arrays: `(x,)`, `(x, y)` or `(x, y, sample_weight)` of arrays or nests of arrays.
        batch_size: Number of rows per batch.
        seed: Seed of the order.
    """

    def __init__(self, arrays: tuple, batch_size: int, seed: int):
        super().__init__()
        self._arrays = tree.map_structure(_to_numpy, arrays)
        self._batch_size, self._seed = batch_size, seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch for the next batches."""
        self._order = np.random.default_rng([self._seed, epoch]).permutation(_num_rows(self._arrays))

    def __len__(self):
        return math.ceil(len(self._order) / self._batch_size)

    def __getitem__(self, index):
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return tree.map_structure(lambda array: array[rows], self._arrays)


class FitData:
    """The arguments of `model.fit` for each stage. Arrays are shuffled here; a function `x` is called for each stage.

    Args:
        arguments: The arguments of `fit`, without epochs and callbacks.
        seed: Seed of the order of arrays.
    """

    def __init__(self, arguments: dict, seed: int):
        self._arguments, self._epoch, self._x = dict(arguments), None, None
        names = [name for name in ("x", "y", "sample_weight") if arguments[name] is not None]
        self._arrays = tuple(arguments[name] for name in names)
        self._has_arrays = are_arrays(self._arrays) and names != ["x", "sample_weight"]
        if self._has_arrays:
            self._split_validation()
            if arguments["shuffle"] is True and not arguments.get("steps_per_epoch"):
                shuffled = ShuffledArrays(self._arrays, self._batch_size, seed)
                self._arguments |= {"x": shuffled, "y": None, "sample_weight": None, "shuffle": False}

    def for_stage(self, epoch: int) -> dict:
        """Return the arguments of `fit` for a stage that begins with this epoch."""
        if not callable(self._arguments["x"]):
            return self._arguments
        if self._epoch != epoch:
            self._epoch, self._x = epoch, self._arguments["x"](epoch)
        return self._arguments | {"x": self._x}

    def first_examples(self, select, epoch: int, count: int, saved) -> tuple:
        """Return the first examples and their batch size.

        Args:
            select: Function of a batch, `inputs_of` or `inputs_and_labels_of`.
            epoch: First epoch of the training.
            count: Number of examples.
            saved: `Record.saved_examples`, for data that cannot be read again when the training is resumed.
        """
        if self._has_arrays:
            return first_examples(select(self._arrays), count, self._batch_size)
        return saved(lambda: first_examples(self.for_stage(epoch)["x"], count, select=select))

    @property
    def _batch_size(self):
        return self._arguments["batch_size"] or 32

    def _split_validation(self):
        fraction = self._arguments["validation_split"]
        if fraction and self._arguments["validation_data"] is None:
            self._arrays, validation = _split(self._arrays, fraction)
            self._arguments |= zip(("x", "y", "sample_weight"), self._arrays, strict=False)
            self._arguments |= {"validation_data": validation, "validation_split": 0.0}


def are_arrays(data) -> bool:
    """Return whether `data` is a nest of arrays or tensors of numbers, all with as many rows."""
    leaves = [leaf for leaf in tree.flatten(data) if leaf is not None]
    return bool(leaves) and all(map(_is_array, leaves)) and len({a.shape[0] for a in leaves}) == 1


def _is_array(leaf):
    if isinstance(leaf, np.ndarray):
        return leaf.ndim > 0 and leaf.dtype.kind in "biuf"
    return ops.is_tensor(leaf) and len(leaf.shape) > 0 and keras.backend.standardize_dtype(leaf.dtype) != "string"


def _split(arrays, fraction):
    """Return the arrays for training and those for validation, as `fit(validation_split=fraction)` splits them."""
    index = math.floor(_num_rows(arrays) * (1 - fraction))
    slices = slice(index), slice(index, None)
    return tuple(tree.map_structure(lambda a, rows=rows: a[rows], arrays) for rows in slices)


def inputs_of(batch):
    """Return the inputs of a batch."""
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def inputs_and_labels_of(batch):
    """Return the inputs and the labels of a batch.

    Raises:
        ValueError: If the batch has no labels.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise ValueError(
            "The data have no labels, and relevance begins at the class of an example: expected fit(x, y), batches "
            "(x, y), or data=(x[:5000], y[:5000])."
        )
    return tuple(batch[:2])


def first_examples(data, count: int, batch_size: int = 32, select=inputs_of) -> tuple:
    """Return the first examples.

    Args:
        data: A nest of arrays. Or an iterable of batches: a `tf.data.Dataset`, a `PyDataset`.
        count: Number of examples.
        batch_size: Batch size for arrays. Default: 32.
        select: Function of a batch. Default: its inputs.

    Returns:
        A nest of NumPy arrays, and the batch size of `data`.

    Raises:
        TypeError: If `data` is a generator, since its examples would be lost for the training.
    """
    if are_arrays(data):
        return tree.map_structure(lambda a: _to_numpy(a[:count]), data), batch_size
    if not hasattr(data, "__iter__") or hasattr(data, "__next__"):
        raise TypeError(
            f"Nothing can be measured on the first {count} examples of {type(data).__name__}: the training would not "
            f"see the examples that are read. Pass examples when the driver is created: data={_EXPECTED[select]}."
        )
    batches, num_rows = [], 0
    for batch in data:
        batches.append(tree.map_structure(_to_numpy, select(batch)))
        num_rows += _num_rows(batches[-1])
        if num_rows >= count:
            break
    examples = tree.map_structure(lambda *parts: np.concatenate(parts)[:count], *batches)
    return examples, _num_rows(batches[0])


_EXPECTED = {inputs_of: "x[:5000]", inputs_and_labels_of: "(x[:5000], y[:5000])"}


def _num_rows(arrays):
    return tree.flatten(arrays)[0].shape[0]


def _to_numpy(array):
    """Return a NumPy array, with Keras's float type in place of float64."""
    array = array if isinstance(array, np.ndarray) else ops.convert_to_numpy(array)
    return array.astype(keras.config.floatx()) if array.dtype == np.float64 else array
