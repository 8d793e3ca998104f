"""The verdict of each target on a weight."""

import pathlib
import re

import numpy as np
import pytest

from tfsparse.doctor import patterns, targets
from tfsparse.doctor.weights import Operation, Weight
from tfsparse.export.tflite_file import Tensor
from tfsparse.masks import granularity


def weight(operation=Operation.DENSE, shape=(512, 512), kind="weight", sparsity=0.9, dtype="float32", **options):
    random = np.random.default_rng(0).uniform(1, 2, shape)
    units = granularity.get(kind)
    order = np.argsort(np.asarray(units.pool(random)).ravel())
    unit_mask = np.ones(order.size)
    unit_mask[order[: round(sparsity * order.size)]] = 0
    mask = np.asarray(units.expand(unit_mask.reshape(np.shape(units.pool(random))), random))
    return Weight("w", shape, (random * mask).astype(dtype), operation, **options)


def verdict(target, **options):
    one = weight(**options)
    result = targets.get(target).verdict(one, patterns.detect(one.array))
    return result.smaller, result.faster, result.why, result.instead


CONV = (3, 3, 64, 64)
AVX = "XNNPACK's sparse kernels for 1x1 convolutions are switched off on x86 with AVX"
MULTIPLES = "the sparse kernel takes multiples of 4 inputs, and here are"
NO_KERNEL = "TFLite has no sparse kernel for convolutions"
TOO_FEW = "too few zeros, or too few entries, for a sparse form"
CHANNELS = 'granularity="channel", then shrink'
SMALL_GAIN = "runs sparse; networks below 2 MiB gain from 85% zeros on"
X86 = [
    ({"kind": (1, 4)}, ("yes", "yes", "", "")),
    ({"kind": "channel"}, ("yes", "yes", "", "")),
    ({"kind": (1, 4), "sparsity": 0.8}, ("yes", "hardly", SMALL_GAIN, "")),
    ({"kind": (1, 4), "sparsity": 0.8, "network_bytes": 2 * 2**20}, ("yes", "yes", "", "")),
    ({"kind": (1, 4), "shape": (128, 128)}, ("yes", "hardly", "runs sparse, but has few entries", "")),
    ({"kind": "weight"}, ("yes", "no", "zeros do not stand in blocks", "granularity=(1, 4)")),
    ({"kind": "2:4", "sparsity": 1.0}, ("yes", "no", "the sparse kernel is taken from 75% zeros on", ...)),
    ({"shape": (510, 512), "kind": (1, 4)}, ("yes", "no", f"{MULTIPLES} 510", CHANNELS)),
    ({"dtype": "int8", "kind": (1, 4)}, ("yes", "no", "the sparse kernel takes float32", CHANNELS)),
    ({"sparsity": 0}, ("no", "no", "no zeros", "granularity=(1, 4), sparsity >= 0.75")),
    ({"operation": Operation.CONVOLUTION, "shape": CONV}, ("yes", "no", NO_KERNEL, CHANNELS)),
    ({"operation": Operation.POINTWISE, "shape": (1, 1, 64, 64)}, ("yes", "no", AVX, CHANNELS)),
    ({"operation": Operation.CONVOLUTION, "shape": CONV, "sparsity": 0}, ("no", "no", "no zeros", CHANNELS)),
    ({"operation": Operation.OTHER}, ("not measured", "not measured", ..., "export_tflite, then doctor of the file")),
    ({"operation": Operation.OTHER, "sparsity": 0}, ("no", "no", "no zeros", CHANNELS)),
    (
        {"operation": Operation.CONVOLUTION, "shape": CONV, "sparsity": 0.2},
        ("no", "no", f"{NO_KERNEL}; {TOO_FEW}", ...),
    ),
]


def assert_verdict(verdict, expected):
    assert [s for s, e in zip(verdict, expected, strict=True) if e is not ...] == [e for e in expected if e is not ...]


@pytest.mark.parametrize("options, expected", X86, ids=lambda x: str(x)[:60])
def test_verdicts_of_tflite_on_x86(options, expected):
    assert_verdict(verdict("tflite-cpu", **options), expected)


ARM = [
    ({"operation": Operation.OTHER}, ("not measured", "not measured", ..., "export_tflite, then doctor of the file")),
    ({"kind": (1, 4)}, ("yes", "not measured", "the kernel is that of x86", "")),
    ({"kind": "weight"}, ("yes", "no", "zeros do not stand in blocks", "granularity=(1, 4)")),
    ({"operation": Operation.POINTWISE, "shape": (1, 1, 64, 64)}, ("yes", "not measured", ..., "")),
    (
        {"operation": Operation.POINTWISE, "shape": (1, 1, 64, 64), "sparsity": 0.66},
        ("yes", "no", "XNNPACK runs 1x1 convolutions sparse above 2/3 zeros", 'granularity="weight", sparsity >= 0.7'),
    ),
    ({"operation": Operation.POINTWISE, "shape": (1, 1, 64, 64), "dtype": "int8"}, (..., "no", ..., CHANNELS)),
    ({"operation": Operation.CONVOLUTION, "shape": CONV}, ("yes", "no", NO_KERNEL, CHANNELS)),
]


@pytest.mark.parametrize("options, expected", ARM, ids=lambda x: str(x)[:60])
def test_verdicts_of_tflite_on_arm_are_not_measured(options, expected):
    assert_verdict(verdict("xnnpack-arm", **options), expected)


@pytest.mark.parametrize("kind", ["weight", (1, 4), "channel"])
def test_tensorflow_is_never_faster_by_zeros(kind):
    assert verdict("savedmodel", kind=kind)[:2] == ("yes", "no")
    assert verdict("savedmodel", kind=kind, sparsity=0)[:3] == ("no", "no", "no zeros")
    assert verdict("savedmodel", kind=kind, shape=(32, 16))[0] == "no"  # smaller than what packing adds to the graph


IDLE = [
    ({"removable": 0.5}, ("yes", "yes", "", "tfsparse.shrink(model) removes 50% of its channels")),
    ({"removable": 0.0}, ("no", "no", "its empty channels are not without effect", ...)),
    ({}, ("no", "no", "unknown what reads its channels: the model is not a graph of known layers", "")),
    ({"removable": 0.5, "why_fixed": "an output"}, ("no", "no", "the number of channels must stay: an output", "")),
    ({"removable": 0.0, "kind": "weight"}, ("no", "no", "no channel is empty", CHANNELS)),
]


@pytest.mark.parametrize("options, expected", IDLE, ids=lambda x: str(x)[:60])
def test_only_removable_channels_gain_on_any_runtime(options, expected):
    assert_verdict(verdict("any", **{"kind": "channel", **options}), expected)


def in_file(stored, runs, dtype="float32"):
    return Tensor("w", (512, 512), dtype, 0.9, stored, runs, 100, 1000, "because", ("FULLY_CONNECTED",))


DENSE = "the file holds it dense: its converter was not asked for more"
FILES = [
    ({"kind": (1, 4), "tensor": in_file("sparse", "sparse")}, ("yes", "yes", "", "")),
    ({"kind": "weight", "tensor": in_file("sparse", "dense")}, ("yes", "no", "zeros do not stand in blocks", ...)),
    ({"kind": (1, 4), "tensor": in_file("dense", "dense")}, ("no", "no", DENSE, "tfsparse.export_tflite(model, path)")),
    ({"kind": "weight", "tensor": in_file("dense", "dense")}, ("no", "no", DENSE, ...)),
    ({"dtype": "int8", "tensor": in_file("dense", "dense", "int8")}, ("no", "no", DENSE, ...)),
    ({"sparsity": 0, "tensor": in_file("dense", "dense")}, ("no", "no", "no zeros", ...)),
    ({"operation": Operation.OTHER, "tensor": in_file("dense", "dense")}, ("no", "no", ..., CHANNELS)),
]


@pytest.mark.parametrize("options, expected", FILES, ids=lambda x: str(x)[:40])
def test_the_verdict_on_a_file_goes_by_what_is_stored(options, expected):
    assert_verdict(verdict("tflite-cpu", **options), expected)


def test_targets_are_known_by_name():
    assert targets.names() == ["savedmodel", "tflite-cpu", "xnnpack-arm", "any"]
    assert all(targets.get(name).name == name for name in targets.names())
    with pytest.raises(ValueError, match="Unknown target 'arm': expected one of savedmodel, tflite-cpu"):
        targets.get("arm")


def test_a_target_of_the_page_is_one_class_and_one_registration(monkeypatch):
    monkeypatch.setattr(targets, "_TARGETS", dict(targets._TARGETS))
    page = (pathlib.Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "targets.register" in c]
    scope = {}
    exec(compile(code, "doctor.md", "exec"), scope)
    diagnosis, plan = scope["diagnosis"], scope["plan"]
    assert [(row.pattern, row.faster) for row in diagnosis.rows] == [("2:4", "yes"), ("dense", "no")]
    assert diagnosis.why_not_measured == "no such accelerator is in this machine" and "two-of-four" in str(diagnosis)
    assert plan.config["prune"]["pruner"] == {"name": "magnitude", "scope": "layer", "granularity": "2:4"}
    with pytest.raises(ValueError, match="any, two-of-four"):
        targets.get("another")
