"""Read and rewrite TFLite files: which weights are sparse, and how to make them sparse.

TFLite's own switch EXPERIMENTAL_SPARSITY looks at the pattern alone and writes files that return wrong outputs in
float16 and int8 (docs/tflite.md). Here weights become sparse in the dense file that the converter writes.
"""

import contextlib
import copy
import dataclasses
import os
from collections.abc import Iterator

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from tfsparse.export import tflite_rules as rules
from tfsparse.export import tflite_schema

_OP, _TYPE = schema.BuiltinOperator, schema.TensorType
_KERNEL_VERSION = 8  # the first version of FULLY_CONNECTED that has the sparse kernel
_WEIGHTS = 1  # position of the weights among the inputs of an operation
_PASSED_ON = {_OP.DENSIFY, _OP.DEQUANTIZE}  # operations between a weight and those that compute with it
_DTYPES = {_TYPE.FLOAT32: np.float32, _TYPE.FLOAT16: np.float16, _TYPE.INT8: np.int8}
_NAMES = {number: name for name, number in vars(_OP).items() if isinstance(number, int)}
_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every file


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One weight in a TFLite file.

    Args:
        name: Name of the tensor.
        shape: Its shape, on TFLite's axes.
        dtype: Name of its dtype.
        sparsity: Fraction of zeros in [0, 1].
        stored: "sparse" or "dense": its form in the file.
        runs: "sparse" or "dense": the form that operations compute with.
        bytes: Its bytes in the file.
        dense_bytes: The bytes that it would take if stored densely.
        why: Reason why it does not run sparse; "" if it does.
        operations: Names of the operations that compute with it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    sparsity: float
    stored: str
    runs: str
    bytes: int
    dense_bytes: int
    why: str
    operations: tuple[str, ...] = ()


@contextlib.contextmanager
def errors_naming(path: str | os.PathLike) -> Iterator[None]:
    """Turn what is raised while a file is read that is damaged, or is no TFLite file, into one error with its path.

    Raises:
        ValueError: If anything else is raised inside.
    """
    try:
        yield
    except Exception as error:  # FlatBuffers in Python does not verify a file: wrong offsets make it raise many kinds
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"Cannot read {path} as a TFLite file; it may be damaged: {reason}") from error


def sparsify(content: bytes) -> bytes:
    """Return the same model with every weight sparse that gains by it; `content` itself if none does."""
    model = _read(content)
    changed = [
        _sparsify(model, graph, i, readers) for graph in model.subgraphs for i, readers in _weights(model, graph)
    ]
    return _written(model) if any(changed) else content


def tensors(content: bytes) -> list[Tensor]:
    """Return a description of every weight of rank >= 2."""
    model = _read(content)
    return [_described(model, graph, i, readers) for graph in model.subgraphs for i, readers in _weights(model, graph)]


def arrays(content: bytes) -> list[np.ndarray]:
    """Return the dense values of the weights, in the order of `tensors`."""
    model = _read(content)
    return [_array(model, graph.tensors[i]) for graph in model.subgraphs for i, _ in _weights(model, graph)]


def signatures(content: bytes) -> dict[str, int]:
    """Return the names of the signatures, and the number of the graph that each runs."""
    return {s.signatureKey.decode(): s.subgraphIndex for s in _read(content).signatureDefs or ()}


class _Aligned(flatbuffers.Builder):
    """A builder whose arrays begin at multiples of 16, which TFLite requires of weights."""

    def CreateNumpyVector(self, x):
        self.Prep(16, x.nbytes)
        return super().CreateNumpyVector(x)


def _read(content):
    if content[4:8] != _IDENTIFIER:
        raise ValueError(f"it begins with {content[:16]!r}" if content else "it is empty")
    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


def _written(model):
    builder = _Aligned(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _weights(model, graph):
    """Yield the index of every constant tensor of rank >= 2, and the inputs it is: (operator, position)."""
    readers = {}
    for operator in graph.operators:
        for position, index in enumerate(operator.inputs):
            readers.setdefault(int(index), []).append((operator, position))
    for index, tensor in enumerate(list(graph.tensors)):
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data) and len(tensor.shape) > 1 and tensor.type in _DTYPES and index in readers:
            yield index, readers[index]


def _sparsify(model, graph, index, readers):
    """Make one weight sparse if it gains by it, and return whether it does."""
    tensor = graph.tensors[index]
    if tensor.sparsity is not None:
        return False
    form = rules.choose_form(_array(model, tensor), _operations(_users(model, graph, readers)), _num_scales(tensor))
    if form.runs_sparse:
        for operator, _ in readers:
            operator.opcodeIndex = _code(model, _OP.FULLY_CONNECTED, _KERNEL_VERSION)
    elif form.encoded is not None:
        _densify(model, graph, index, readers)
    if form.encoded is not None:
        _store(model, tensor, form.encoded)
    return form.encoded is not None


def _users(model, graph, readers):
    """Return the operations that compute with a weight, and the positions of the weight among their inputs."""
    users = set()
    for operator, position in readers:
        operation = _operation(model, operator)
        if operation in _PASSED_ON:
            following = [(o, i) for o in graph.operators for i, t in enumerate(o.inputs) if t == operator.outputs[0]]
            users |= _users(model, graph, following)
        else:
            users.add((_NAMES[operation], position))
    return users


def _operations(users):
    """Return the names of the operations; none if one of them does not take the tensor as its weights."""
    return {name for name, _ in users} if all(position == _WEIGHTS for _, position in users) else set()


def _num_scales(tensor):
    scale = tensor.quantization.scale if tensor.quantization is not None else None
    return 0 if scale is None else len(scale)


def _densify(model, graph, index, readers):
    """Insert an operation that unpacks a tensor before it is read."""
    dense = copy.copy(graph.tensors[index])
    dense.buffer, dense.name = 0, dense.name + b"_dense"
    graph.tensors.append(dense)
    dense_index = len(graph.tensors) - 1
    for operator, position in readers:
        operator.inputs = np.array(operator.inputs, np.int32)
        operator.inputs[position] = dense_index
    unpack = schema.OperatorT()
    unpack.opcodeIndex = _code(model, _OP.DENSIFY, 1)
    unpack.inputs, unpack.outputs = np.array([index], np.int32), np.array([dense_index], np.int32)
    unpack.builtinOptionsType, unpack.builtinOptions = schema.BuiltinOptions.DensifyOptions, schema.DensifyOptionsT()
    graph.operators.insert(0, unpack)


def _store(model, tensor, encoded):
    """Store the sparse form of a tensor in another buffer. The old one is emptied if no other tensor uses it."""
    old, tensor.buffer = tensor.buffer, _buffer(model, encoded.values.view(np.uint8))
    tensor.sparsity = tflite_schema.parameters(encoded)
    if all(t.buffer != old for graph in model.subgraphs for t in graph.tensors):
        model.buffers[old].data = None


def _buffer(model, data):
    """Return the index of a buffer with this content: an equal one, since graphs share weights, or a new one."""
    for i, buffer in enumerate(model.buffers):
        if data.size and buffer.data is not None and np.array_equal(buffer.data, data):
            return i
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = data
    return len(model.buffers) - 1


def _array(model, tensor):
    """Return the dense values of a weight."""
    shape = tuple(map(int, tensor.shape))
    if min(shape) < 0:
        raise ValueError(f"the shape {shape} is negative")
    values = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(_DTYPES[tensor.type])
    return values.reshape(shape) if tensor.sparsity is None else tflite_schema.decode(values, shape, tensor.sparsity)


def _operation(model, operator):
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)  # old files have only the second


def _code(model, operation, version):
    """Return the index of an operation in the file's list of them, and add it to the list if it is missing."""
    for i, code in enumerate(model.operatorCodes):
        if (code.builtinCode, code.version) == (operation, version):
            return i
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = operation, version
    code.deprecatedBuiltinCode = min(operation, _OP.PLACEHOLDER_FOR_GREATER_OP_CODES)
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _described(model, graph, index, readers):
    tensor = graph.tensors[index]
    array, users = _array(model, tensor), _users(model, graph, readers)
    is_direct = all(_operation(model, operator) not in _PASSED_ON for operator, _ in readers)
    runs_sparse = tensor.sparsity is not None and is_direct
    return Tensor(
        name=tensor.name.decode(errors="replace"),
        shape=array.shape,
        dtype=array.dtype.name,
        sparsity=float(np.mean(array == 0)),
        stored="dense" if tensor.sparsity is None else "sparse",
        runs="sparse" if runs_sparse else "dense",
        bytes=len(model.buffers[tensor.buffer].data) + tflite_schema.index_bytes(tensor.sparsity),
        dense_bytes=array.nbytes,
        why="" if runs_sparse else _why_dense(array, users),
        operations=_names(users),
    )


def _names(users):
    return tuple(sorted({name for name, _ in users}))


def _why_dense(array, users):
    """Return why a weight does not run sparse."""
    if not rules.has_kernel(array, _operations(users)):
        return f"TFLite has no sparse kernel for {', '.join(_names(users))} in {array.dtype.name}"
    obstacle = rules.kernel_obstacle(array)
    if obstacle == rules.NO_BLOCKS:
        return f"{obstacle}: train with granularity={rules.GRANULARITY}"
    return obstacle or "the converter was not asked to: tfsparse.export_tflite makes it sparse"
