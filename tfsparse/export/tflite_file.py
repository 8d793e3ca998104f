"""What is in a TFLite file: which of its weights are sparse, and how to make them so.

TFLite has one sparse kernel that is faster and right: fully connected, float32, blocks of 1x4. Before all other readers
of a sparse weight stands an operation DENSIFY that unpacks it once: fewer bytes in the file, the speed and memory of a
dense one. The converter's own EXPERIMENTAL_SPARSITY goes by the pattern alone and writes files that answer wrongly in
float16 and int8 (`docs/tflite.md`); so weights become sparse here, in the dense file that it writes.
"""

import copy
import dataclasses

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from tfsparse.export import tflite_encoding as encoding

BLOCK = 4  # inputs of one output, in the sparse kernel
KERNEL_FROM = 0.75  # share of empty blocks from which large layers gain and small ones lose little: docs/tflite.md
GAIN = 0.8  # sparse if it takes less than this share of the dense bytes
OVERHEAD = 600  # bytes by which a file grows for each DENSIFY; with int8 its tensor also has the scales once more
_OP, _TYPE = schema.BuiltinOperator, schema.TensorType
_KERNEL_VERSION = 8  # the first version of FULLY_CONNECTED that has it
_UNPACKED = {_OP.FULLY_CONNECTED, _OP.CONV_2D, _OP.DEPTHWISE_CONV_2D, _OP.TRANSPOSE_CONV}  # weights are their input 1
_BETWEEN = {_OP.DENSIFY, _OP.DEQUANTIZE}
_DTYPES = {_TYPE.FLOAT32: np.float32, _TYPE.FLOAT16: np.float16, _TYPE.INT8: np.int8}
_NAMES = {number: name for name, number in vars(_OP).items() if isinstance(number, int)}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A weight in a file. `stored` and `runs` are "sparse" or "dense", `why` says what keeps it from running sparse;
    `bytes` is what it takes in the file, `dense_bytes` what it would take dense; `operations` compute with it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    zeros: float
    stored: str
    runs: str
    bytes: int
    dense_bytes: int
    why: str
    operations: tuple[str, ...] = ()


def sparsify(content: bytes) -> bytes:
    """The same model, with those weights sparse that gain by it."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    count = len(model.buffers)
    for graph in model.subgraphs:
        for index, readers in _weights(model, graph):
            _sparsify(model, graph, index, readers)
    return _written(model) if len(model.buffers) > count else content


def tensors(content: bytes) -> list[Tensor]:
    """Every weight of rank 2 and more."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    return [_described(model, graph, i, readers) for graph in model.subgraphs for i, readers in _weights(model, graph)]


def arrays(content: bytes) -> list[np.ndarray]:
    """Their dense values, in the same order."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    return [_array(model, graph.tensors[i]) for graph in model.subgraphs for i, _ in _weights(model, graph)]


class _Aligned(flatbuffers.Builder):
    """Arrays begin at multiples of 16, as TFLite's schema asks for weights and Python's builder does not do."""

    def CreateNumpyVector(self, x):
        self.Prep(16, x.nbytes)
        return super().CreateNumpyVector(x)


def _written(model):
    builder = _Aligned(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _weights(model, graph):
    """Constant tensors of rank 2 and more that may be sparse, each with those who read it: (operator, place)."""
    readers = {}
    for operator in graph.operators:
        for place, index in enumerate(operator.inputs):
            readers.setdefault(int(index), []).append((operator, place))
    for index, tensor in enumerate(list(graph.tensors)):
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data) and len(tensor.shape) > 1 and tensor.type in _DTYPES and index in readers:
            yield index, readers[index]


def _sparsify(model, graph, index, readers):
    """Make one weight sparse, if it gains by it."""
    tensor = graph.tensors[index]
    if tensor.sparsity is not None:
        return
    array, users = _array(model, tensor), _users(model, graph, readers)
    if _has_kernel(array, users) and encoding.empty_blocks(array, BLOCK) >= KERNEL_FROM:
        _store(model, tensor, encoding.encode(array, BLOCK))
        for operator, _ in readers:
            operator.opcodeIndex = _code(model, _OP.FULLY_CONNECTED, _KERNEL_VERSION)
    elif _may_be_unpacked(array, users):
        encoded = encoding.smallest(array)
        if encoded.nbytes + _overhead(tensor) < GAIN * array.nbytes:
            _densify(model, graph, index, readers)
            _store(model, tensor, encoded)


def _users(model, graph, readers):
    """The operations that compute with a weight, behind those that only change its form: (operation, place)."""
    found = set()
    for operator, place in readers:
        operation = _operation(model, operator)
        if operation in _BETWEEN:
            behind = [(o, i) for o in graph.operators for i, t in enumerate(o.inputs) if t == operator.outputs[0]]
            found |= _users(model, graph, behind)
        else:
            found.add((operation, place))
    return found


def _has_kernel(array, users):
    return array.dtype == np.float32 and users == {(_OP.FULLY_CONNECTED, 1)}


def _may_be_unpacked(array, users):
    """XNNPACK leaves transposed convolutions of a dynamic batch alone, and answers NaN if their float16 is unpacked."""
    operations = _UNPACKED - {_OP.TRANSPOSE_CONV} if array.dtype == np.float16 else _UNPACKED
    return bool(users) and all(operation in operations and place == 1 for operation, place in users)


def _overhead(tensor):
    scale = tensor.quantization.scale if tensor.quantization is not None else None
    return OVERHEAD + (0 if scale is None else 12 * len(scale))


def _densify(model, graph, index, readers):
    """Have a tensor unpacked before it is read."""
    dense = copy.copy(graph.tensors[index])
    dense.buffer, dense.name = 0, dense.name + b"_dense"
    graph.tensors.append(dense)
    place_of_dense = len(graph.tensors) - 1
    for operator, place in readers:
        operator.inputs = np.array(operator.inputs, np.int32)
        operator.inputs[place] = place_of_dense
    unpack = schema.OperatorT()
    unpack.opcodeIndex = _code(model, _OP.DENSIFY, 1)
    unpack.inputs, unpack.outputs = np.array([index], np.int32), np.array([place_of_dense], np.int32)
    unpack.builtinOptionsType, unpack.builtinOptions = schema.BuiltinOptions.DensifyOptions, schema.DensifyOptionsT()
    graph.operators.insert(0, unpack)


def _store(model, tensor, encoded):
    """Give a tensor its sparse form, in a buffer of its own; the old one is emptied if no other tensor has it."""
    old, tensor.buffer = tensor.buffer, len(model.buffers)
    tensor.sparsity = encoding.parameters(encoded)
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = encoded.values.view(np.uint8)
    if all(t.buffer != old for graph in model.subgraphs for t in graph.tensors):
        model.buffers[old].data = None


def _array(model, tensor):
    """The dense values of a weight."""
    values = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(_DTYPES[tensor.type])
    if tensor.sparsity is None:
        return values.reshape(tensor.shape)
    return encoding.decode(values, tuple(tensor.shape), tensor.sparsity)


def _operation(model, operator):
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)  # old files have only the second


def _code(model, operation, version):
    """The place of an operation in the file's list of them."""
    for i, code in enumerate(model.operatorCodes):
        if (code.builtinCode, code.version) == (operation, version):
            return i
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = operation, version
    code.deprecatedBuiltinCode = min(operation, _OP.PLACEHOLDER_FOR_GREATER_OP_CODES)
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _described(model, graph, index, readers):
    """What a user wants to know of one weight."""
    tensor = graph.tensors[index]
    array, users = _array(model, tensor), _users(model, graph, readers)
    stored = "dense" if tensor.sparsity is None else "sparse"
    direct = all(_operation(model, operator) not in _BETWEEN for operator, _ in readers)
    runs = "sparse" if stored == "sparse" and direct else "dense"
    return Tensor(
        name=tensor.name.decode(),
        shape=tuple(map(int, tensor.shape)),
        dtype=array.dtype.name,
        zeros=float(np.mean(array == 0)),
        stored=stored,
        runs=runs,
        bytes=len(model.buffers[tensor.buffer].data) + encoding.index_bytes(tensor.sparsity),
        dense_bytes=array.nbytes,
        why="" if runs == "sparse" else _why(array, users),
        operations=_names(users),
    )


def _names(users):
    return tuple(sorted({_NAMES[operation] for operation, _ in users}))


def _why(array, users):
    """What keeps a weight from running sparse."""
    if not _has_kernel(array, users):
        return f"TFLite has no sparse kernel for {', '.join(_names(users))} in {array.dtype.name}"
    if array.shape[-1] % BLOCK:
        return f"the sparse kernel takes multiples of {BLOCK} inputs, and here are {array.shape[-1]}"
    if np.mean(array == 0) < KERNEL_FROM:
        return f"the sparse kernel is taken from {KERNEL_FROM:.0%} zeros on"
    if encoding.empty_blocks(array, BLOCK) < KERNEL_FROM:
        return f"zeros do not stand in blocks: train with granularity=(1, {BLOCK})"
    return "not asked for: tfsparse.export_tflite makes it sparse"
