"""The targets by their names."""

from tfsparse.backend.registry import nearest
from tfsparse.doctor.any_runtime import AnyRuntime
from tfsparse.doctor.target import Target
from tfsparse.doctor.tensorflow_runtime import TensorFlowRuntime
from tfsparse.doctor.tflite_cpu import TFLiteCPU
from tfsparse.doctor.xnnpack_arm import XNNPackArm

_TARGETS: dict[str, type[Target]] = {}


def register(cls: type[Target]) -> type[Target]:
    """Register a target under its `name`; a decorator.

    Args:
        cls: The class. `doctor` and `plan` create it without arguments.

    Returns:
        `cls`.

    Examples:
        >>> @register
        ... class MyChip(Target):
        ...     name, title = "my-chip", "my chip"
    """
    _TARGETS[cls.name] = cls
    return cls


def names() -> list[str]:
    """Return the names of all targets."""
    return list(_TARGETS)


def get(target: str | Target) -> Target:
    """Return the target of a name, or a `Target` as it is.

    Raises:
        ValueError: If the name is unknown.

    Examples:
        >>> get("tflite-cpu").title
        'TFLite on x86'
    """
    if isinstance(target, Target):
        return target
    if target not in _TARGETS:
        raise ValueError(
            f"Unknown target {target!r}: expected one of {', '.join(names())}.{nearest(str(target), names())}"
        )
    return _TARGETS[target]()


for _target in (TensorFlowRuntime, TFLiteCPU, XNNPackArm, AnyRuntime):
    register(_target)
