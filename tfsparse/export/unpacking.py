"""Packed arrays back to variables, in TensorFlow operations that every runtime of SavedModels has."""

import tensorflow as tf


class PackedVariable(tf.saved_model.experimental.TrackableResource):
    """What a SavedModel holds in the place of a variable: whatever loads it makes a variable and fills it from files.

    In the functions of the SavedModel it has the place of `variable`, since it gives out the same handle.

    Args:
        variable: the variable that it replaces.
        name: how the new variable is found, unique in the SavedModel; tf.saved_model.load adds the number of the load.
        files: `tf.saved_model.Asset`s with the parts of the array.
        counts: entries in each of them.
        dtype: of the packed entries.
        scale: what they are multiplied with, or None.
    """

    def __init__(self, variable, name, files, counts, dtype, scale=None):
        super().__init__()
        self._variable, self._name = variable, name
        self.files, self._counts = files, counts
        self._dtype, self._scale = tf.as_dtype(dtype), scale

    @property
    def resource_handle(self):
        return self._variable.handle

    def _create_resource(self):
        return tf.raw_ops.VarHandleOp(dtype=self._variable.dtype, shape=self._variable.shape, shared_name=self._name)

    def _destroy_resource(self):
        tf.raw_ops.DestroyResourceOp(resource=self.resource_handle)  # no effect on a living tf.Variable, which counts

    def _initialize(self):
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=self._value())

    def _value(self):
        parts = [
            unpack(tf.io.read_file(file.asset_path), count, self._dtype.size)
            for file, count in zip(self.files, self._counts, strict=True)
        ]
        rows = parts[0] if len(parts) == 1 else tf.concat(parts, axis=0)
        value = tf.reshape(_from_bytes(rows, self._dtype), self._variable.shape)
        value = tf.cast(value, self._variable.dtype)
        return value if self._scale is None else value * self._scale


@tf.function(
    input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int64)],
    autograph=False,
)
def unpack(file, count, width):
    """The `count` entries of a file as rows of `width` bytes. Bytes, not floats: an addition to 0.0, which scattering
    is, would lose the sign of -0.0 and denormal numbers."""
    content = tf.io.decode_raw(tf.io.decode_compressed(file, "GZIP"), tf.uint8)
    length = (count + 7) // 8
    bits = tf.bitwise.right_shift(content[:length, tf.newaxis], tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8))
    alive = tf.reshape(tf.bitwise.bitwise_and(bits, 1), [-1])[:count] > 0
    rows = tf.transpose(tf.reshape(content[length:], tf.stack([width, -1])))
    return tf.scatter_nd(tf.where(alive), rows, tf.stack([count, width]))


def _from_bytes(rows, dtype):
    """Rows of bytes as numbers; TensorFlow drops the last axis only if it is longer than one."""
    return tf.bitcast(rows if dtype.size > 1 else rows[:, 0], dtype)
