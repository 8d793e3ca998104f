"""Packed arrays back to variables, in TensorFlow operations that every runtime of SavedModels has."""

import tensorflow as tf


class VariableFromFiles(tf.saved_model.experimental.TrackableResource):
    """Fills a variable of a SavedModel from files whenever it is loaded, in Python or into a session.

    It is a resource because TensorFlow initialises those then. Nothing reads the resource itself.

    Args:
        variable: The variable to fill.
        name: Name of the resource, unique in the SavedModel.
        files: List of `tf.saved_model.Asset`, the parts of the array in their order.
        counts: List of int, the number of entries in each file.
        dtype: dtype of the packed entries.
        scale: Array that the entries are multiplied with, or None for 1. Default: None.
    """

    def __init__(self, variable, name, files, counts, dtype, scale=None):
        super().__init__()
        self.variable, self._name = variable, name
        self.files, self._counts = files, counts
        self._dtype, self._scale = tf.as_dtype(dtype), scale

    def _create_resource(self):
        return tf.raw_ops.VarHandleOp(dtype=tf.bool, shape=[], shared_name=self._name)

    def _initialize(self):
        self.variable.assign(self._value())

    def _value(self):
        parts = [
            unpack(tf.io.read_file(file.asset_path), count, self._dtype.size)
            for file, count in zip(self.files, self._counts, strict=True)
        ]
        rows = parts[0] if len(parts) == 1 else tf.concat(parts, axis=0)
        value = tf.reshape(_from_bytes(rows, self._dtype), self.variable.shape)
        value = tf.cast(value, self.variable.dtype)
        return value if self._scale is None else value * self._scale


@tf.function(
    input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int64)],
    autograph=False,
)
def unpack(file, count, width):
    """Return the entries of a file as bytes.

    They are scattered as bytes, not as floats: scattering adds to 0.0, which would change -0.0 and denormal numbers.

    Args:
        file: Content of the file, a scalar string tensor.
        count: Number of entries, a scalar int64 tensor.
        width: Bytes per entry, a scalar int64 tensor.

    Returns:
        An uint8 tensor of the shape (count, width).
    """
    content = tf.io.decode_raw(tf.io.decode_compressed(file, "GZIP"), tf.uint8)
    length = (count + 7) // 8
    bits = tf.bitwise.right_shift(content[:length, tf.newaxis], tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8))
    is_nonzero = tf.reshape(tf.bitwise.bitwise_and(bits, 1), [-1])[:count] > 0
    rows = tf.transpose(tf.reshape(content[length:], tf.stack([width, -1])))
    return tf.scatter_nd(tf.where(is_nonzero), rows, tf.stack([count, width]))


def _from_bytes(rows, dtype):
    """Return rows of bytes as numbers. TensorFlow drops the last axis only if it is longer than one."""
    return tf.bitcast(rows if dtype.size > 1 else rows[:, 0], dtype)
