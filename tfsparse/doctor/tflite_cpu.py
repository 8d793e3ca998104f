"""TFLite on x86."""

from tfsparse.doctor.sources import CONVERTED, KERAS, TFLITE
from tfsparse.doctor.target import CHANNELS, HARDLY, NO, NO_ZEROS, UNKNOWN, YES, Target, Verdict
from tfsparse.doctor.weights import Operation
from tfsparse.export import tflite_rules as rules

BLOCKS = f"granularity={rules.GRANULARITY}"


class TFLiteCPU(Target):
    """The rules of `tflite_rules`, for a file or for the file that `export_tflite` would write.

    Measured: docs/tflite.md.
    """

    name, title, kinds = "tflite-cpu", "TFLite on x86", (KERAS, TFLITE, CONVERTED)

    def verdict(self, weight, pattern):
        is_pruned, is_file = pattern.name != "dense", weight.tensor is not None
        if weight.operation is Operation.OTHER and not is_file and is_pruned:
            return Verdict(
                UNKNOWN, UNKNOWN, "unknown what TFLite makes of this layer", "export_tflite, then doctor of the file"
            )
        runs_sparse, smaller = sparse_in_file(weight)
        if runs_sparse:
            obstacle = rules.speed_obstacle(weight.array.size, pattern.sparsity, weight.network_bytes)
            return Verdict(YES, HARDLY if obstacle else YES, obstacle)
        if is_file and not smaller and weight.tflite_form().encoded is not None:
            why = "the file holds it dense: its converter was not asked for more"
            return Verdict(NO, NO, why, "tfsparse.export_tflite(model, path)")
        why, instead = _why_dense(weight, is_pruned)
        if is_pruned and not smaller:
            why += "; too few zeros, or too few entries, for a sparse form"
        return Verdict(YES if smaller else NO, NO, why, instead)

    def granularities(self, sparsity):
        return {"dense": rules.GRANULARITY if sparsity >= rules.KERNEL_MIN_SPARSITY else "weight", "conv": "weight"}

    def forms(self, source, folder):
        return source.tflite_forms(folder)


def sparse_in_file(weight) -> tuple[bool, bool]:
    """Return whether a weight runs sparse and is stored sparse, in its file or as `export_tflite` does it."""
    if weight.tensor is not None:
        return weight.tensor.runs == "sparse", weight.tensor.stored == "sparse"
    form = weight.tflite_form()
    return form.runs_sparse, form.encoded is not None


def _why_dense(weight, is_pruned):
    """Return why a weight does not run sparse, and what to train instead."""
    if weight.operation is Operation.OTHER and weight.tensor is not None:
        return weight.tensor.why, CHANNELS
    if weight.operation is not Operation.DENSE or weight.array.dtype != "float32":
        return _why_no_kernel(weight.operation) if is_pruned else NO_ZEROS, CHANNELS
    obstacle, instead = rules.kernel_obstacle(weight.tflite_array()) or rules.NO_BLOCKS, BLOCKS
    if weight.array.shape[-2] % rules.BLOCK:
        return obstacle, CHANNELS
    if obstacle != rules.NO_BLOCKS:
        instead = f"{BLOCKS}, sparsity >= {rules.KERNEL_MIN_SPARSITY:g}"
    return obstacle if is_pruned else NO_ZEROS, instead


def _why_no_kernel(operation):
    if operation is Operation.DENSE:
        return "the sparse kernel takes float32"
    if operation is Operation.POINTWISE:
        return "XNNPACK's sparse kernels for 1x1 convolutions are switched off on x86 with AVX"
    return f"TFLite has no sparse kernel for {operation.value}"
