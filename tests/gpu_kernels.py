"""Which tensors of a traced TensorFlow function would be copied to the host on a GPU, by TensorFlow's own registry."""

import math

import tensorflow as tf
from tensorflow.python.framework import kernels, op_def_registry

_CALLS = {"StatelessIf", "If", "StatelessWhile", "While", "PartitionedCall", "StatefulPartitionedCall"}


def are_registered() -> bool:
    """Return whether this TensorFlow has kernels for GPUs; those of Linux have, also where there is no GPU."""
    return any(kernel.device_type == "GPU" for kernel in kernels.get_registered_kernels_for_op("DenseBincount").kernel)


def host_operations(function, size: int) -> set[str]:
    """Return the operations that read or write an integer tensor of `size` or more entries in host memory.

    Args:
        function: A concrete function. The functions that it calls are searched too.
        size: Number of entries from which on a tensor counts.
    """
    graphs = [function.graph, *(called.graph for called in function.graph._functions.values())]
    return {_name(op, t) for graph in graphs for op in graph.get_operations() for t in _on_host(op, size)}


def _name(op, tensor):
    return f"{op.type} of {tensor.dtype.name}{tuple(tensor.shape)}"


def _on_host(op, size):
    tensors = [t for t in [*op.inputs, *op.outputs] if t.dtype.is_integer and _size(t) >= size]
    if not tensors or op.type in ("Const", "Placeholder"):
        return []
    if op.type in _CALLS:  # int32 tensors enter and leave functions in host memory
        return [t for t in tensors if t.dtype == tf.int32]
    registered = kernels.get_registered_kernels_for_op(op.type).kernel
    matching = [kernel for kernel in registered if kernel.device_type == "GPU" and _fits(kernel, op)]
    if not matching:
        return tensors
    on_host, definition = set(matching[0].host_memory_arg), op_def_registry.get(op.type)
    named = zip([*definition.input_arg, *definition.output_arg], [*op.inputs, *op.outputs], strict=False)
    return [t for argument, t in named if argument.name in on_host and t.dtype.is_integer and _size(t) >= size]


def _fits(kernel, op):
    return all(op.get_attr(c.name).as_datatype_enum in c.allowed_values.list.type for c in kernel.constraint)


def _size(tensor):
    if tensor.shape.is_fully_defined():
        return math.prod(tensor.shape)
    return 0 if tensor.shape.rank is None else math.inf  # a length that a function does not know may be any
