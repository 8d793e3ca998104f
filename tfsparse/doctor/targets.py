"""The targets by their names."""

from tfsparse.backend.registry import nearest
from tfsparse.doctor.saved_model import SavedModel
from tfsparse.doctor.structural import Structural
from tfsparse.doctor.target import Target
from tfsparse.doctor.tflite_cpu import TFLiteCPU
from tfsparse.doctor.xnnpack_arm import XNNPackArm

_TARGETS = {target.name: target for target in (SavedModel, TFLiteCPU, XNNPackArm, Structural)}


def names() -> list[str]:
    """All of them."""
    return list(_TARGETS)


def get(target: str | Target) -> Target:
    """A target by name, or as it is.

    Raises: ValueError for an unknown name.

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
