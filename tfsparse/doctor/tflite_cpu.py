"""TFLite on x86."""

from tfsparse.doctor import measuring
from tfsparse.doctor.subject import ConvertedSubject, FileSubject, KerasSubject
from tfsparse.doctor.target import CHANNELS, HARDLY, NO, NO_ZEROS, UNKNOWN, YES, Target, Verdict
from tfsparse.doctor.weights import Use, to_tflite

FEW = 256 * 256  # entries of a layer that takes next to no time
CACHE = 2 * 2**20  # bytes of L2 where docs/tflite.md was measured: dense weights that stay in it are fast
_FROM = 0.85  # zeros with which the sparse kernel is faster there too
_ASK = "export_tflite, then doctor of the file"
_EXPORT = "tfsparse.export_tflite(model, path)"
BLOCKS = "granularity=(1, 4)"


class TFLiteCPU(Target):
    """One sparse kernel: fully connected, float32, blocks of (1, 4), from 75 % zeros on. Before all else weights are
    unpacked when the interpreter is made.

    Measured: docs/tflite.md.
    """

    name, title, takes = "tflite-cpu", "TFLite on x86", (KerasSubject, FileSubject, ConvertedSubject)

    def verdict(self, weight, pattern):
        if weight.use is Use.OTHER and weight.stored is None and pattern.name != "dense":
            return Verdict(UNKNOWN, UNKNOWN, "nobody has foretold what TFLite makes of this layer", _ASK)
        sparse, smaller = stored(weight)
        if sparse:
            return _by_the_kernel(weight, pattern)
        if weight.stored is not None and not smaller and any(foretold(weight)):
            return Verdict(NO, NO, "the file holds it dense: its converter was not asked for more", _EXPORT)
        why, train = why_dense(weight, pattern)
        if pattern.name != "dense" and not smaller:
            why += "; too few zeros, or too few entries, for a sparse form"
        return Verdict(YES if smaller else NO, NO, why, train)

    def granularities(self, sparsity):
        from tfsparse.export import tflite_file

        return {"dense": (1, 4) if sparsity >= tflite_file.KERNEL_FROM else "weight", "conv": "weight"}

    def forms(self, subject, folder):
        return [measuring.tflite(name, content) for name, content in subject.tflite(folder).items()]


def stored(weight) -> tuple[bool, bool]:
    """Does a weight run sparse, and is its sparse form smaller? As it is in the file, or foretold."""
    if weight.stored is not None:
        return weight.stored.runs == "sparse", weight.stored.stored == "sparse"
    return foretold(weight)


def foretold(weight) -> tuple[bool, bool]:
    """The same, as `export_tflite` would do it."""
    from tfsparse.export import tflite_encoding, tflite_file  # late: they import TensorFlow

    array = to_tflite(weight)
    if _has_kernel(weight) and tflite_encoding.empty_blocks(array, tflite_file.BLOCK) >= tflite_file.KERNEL_FROM:
        return True, True
    if weight.use is Use.OTHER or not array.size:
        return False, False
    taken = tflite_encoding.smallest(array).nbytes + tflite_file.OVERHEAD
    scales = 12 * len(array) if array.dtype == "int8" else 0  # once more, at most one for each output
    return False, taken + scales < tflite_file.GAIN * array.nbytes


def why_dense(weight, pattern) -> tuple[str, str]:
    """What keeps a weight from running sparse, and what to train instead."""
    from tfsparse.export import tflite_file

    inputs, least = weight.array.shape[-2], tflite_file.KERNEL_FROM
    if weight.use is Use.DENSE and weight.array.dtype != "float32":
        return NO_ZEROS if pattern.name == "dense" else "the sparse kernel takes float32", CHANNELS
    if weight.use is Use.OTHER and weight.stored is not None:
        return weight.stored.why, CHANNELS
    if weight.use is not Use.DENSE:
        return _no_kernel(weight, pattern), CHANNELS
    if inputs % tflite_file.BLOCK:
        return f"the sparse kernel takes multiples of {tflite_file.BLOCK} inputs, and here are {inputs}", CHANNELS
    train = f"{BLOCKS}, sparsity >= {least:g}"
    if pattern.name == "dense":
        return NO_ZEROS, train
    if pattern.zeros < least:
        return f"the sparse kernel is taken from {least:.0%} zeros on", train
    return "zeros do not stand in blocks", BLOCKS


def _no_kernel(weight, pattern):
    if pattern.name == "dense":
        return NO_ZEROS
    if weight.use is Use.POINTWISE:
        return "XNNPACK's sparse kernels for 1x1 convolutions are switched off on x86 with AVX"
    return f"TFLite has no sparse kernel for {weight.use.value}"


def _has_kernel(weight):
    return weight.use is Use.DENSE and weight.array.dtype == "float32"


def _by_the_kernel(weight, pattern):
    if weight.array.size < FEW:
        return Verdict(YES, HARDLY, "runs sparse, but has few entries")
    if weight.network < CACHE and pattern.zeros < _FROM:
        return Verdict(YES, HARDLY, f"runs sparse; networks below {CACHE >> 20} MiB gain from {_FROM:.0%} zeros on")
    return Verdict(YES, YES)
