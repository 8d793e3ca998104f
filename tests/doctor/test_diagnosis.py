"""What is printed for six models, word by word; and measurements, whose figures differ."""

import dataclasses
import json
import math
import pathlib

import keras
import pytest
from doctor.golden_models import MODELS, int8, pruned

import tfsparse
from tfsparse.doctor import measurement
from tfsparse.doctor.tflite_cpu import TFLiteCPU

GOLDEN = pathlib.Path(__file__).parent / "golden"


def assert_golden(diagnosis, name):
    shown = "\n".join(line.rstrip() for line in str(diagnosis).splitlines())
    assert shown.strip() == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("name", MODELS)
def test_diagnoses_are_printed_as_written_down(name):
    assert_golden(tfsparse.doctor(MODELS[name](), measure=False), name)


@pytest.mark.parametrize("target", ["savedmodel", "xnnpack-arm", "any"])
def test_golden_on_other_targets(target):
    assert_golden(tfsparse.doctor(pruned((1, 4)), target, measure=False), f"blocks_{target}")


def test_golden_int8_file(tmp_path):
    diagnosis = tfsparse.doctor(int8(tmp_path), measure=False)
    rows = tuple(dataclasses.replace(r, weight=r.weight.split("/")[1].partition("_")[0]) for r in diagnosis.rows)
    assert_golden(dataclasses.replace(diagnosis, rows=rows), "int8")  # the converter numbers names as it likes


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measurement, "ROUNDS", 2)
    monkeypatch.setattr(measurement, "WINDOW", 1e-3)


@pytest.mark.parametrize("target", ["tflite-cpu", "savedmodel"])
def test_bytes_and_milliseconds_are_measured(target, quick):
    diagnosis = tfsparse.doctor(pruned((1, 4)), target)
    figures = diagnosis.as_dict()["measurement"]
    assert json.dumps(figures) and diagnosis.why_not_measured is None
    for cost in figures["costs"]:
        least, median, most = (cost["milliseconds"][key] for key in ("min", "median", "max"))
        assert 0 < least <= median <= most < math.inf
    dense, sparse = figures["costs"]
    assert dense["bytes"] > 3 * sparse["bytes"] > 0 and 0 < figures["speedup"]["median"] < math.inf
    assert f"{dense['bytes']:,} bytes" in str(diagnosis) and "times faster" in str(diagnosis)


def test_the_measured_sparse_file_is_the_exported_one(tmp_path, quick):
    exported = tfsparse.export_tflite(pruned((1, 4)), tmp_path / "out.tflite")
    assert tfsparse.doctor(pruned((1, 4))).measurement.costs[1].bytes == exported.bytes
    (cost,) = tfsparse.doctor(tmp_path / "out.tflite").measurement.costs
    assert (cost.form, cost.bytes) == ("the file", exported.bytes)


def test_a_file_of_the_stock_converter(tmp_path, quick):
    import tensorflow as tf

    path = tmp_path / "stock.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(pruned((1, 4))).convert())
    diagnosis = tfsparse.doctor(path)
    assert {(row.smaller, row.faster, row.instead) for row in diagnosis.rows} == {
        ("no", "no", "tfsparse.export_tflite(model, path)")
    }
    assert diagnosis.measurement.costs[0].bytes > 5 * diagnosis.measurement.costs[1].bytes


def test_a_saved_model_has_the_diagnosis_of_its_model(tmp_path, quick):
    model = pruned((1, 4))
    model.export(tmp_path / "theirs", verbose=False)
    diagnosis = tfsparse.doctor(tmp_path / "theirs", "savedmodel")
    assert diagnosis.rows == tfsparse.doctor(model, "savedmodel", measure=False).rows and diagnosis.model == "theirs"
    dense, packed = diagnosis.measurement.costs
    assert dense.bytes == sum(f.stat().st_size for f in (tmp_path / "theirs").rglob("*") if f.is_file())
    assert dense.bytes > 5 * packed.bytes
    in_a_file, of_a_model = tfsparse.doctor(tmp_path / "theirs"), tfsparse.doctor(model)
    assert verdicts(in_a_file) == verdicts(of_a_model)
    assert [c.bytes for c in in_a_file.measurement.costs] == [c.bytes for c in of_a_model.measurement.costs]


def verdicts(diagnosis):
    """Of every weight without its name, which the converter changes, in one order."""
    return sorted((r.sparsity, r.pattern, r.smaller, r.faster, r.why, r.instead) for r in diagnosis.rows)


def test_saved_models_that_are_refused(tmp_path):
    tfsparse.export(pruned(), tmp_path / "packed")
    for target in ("savedmodel", "tflite-cpu"):
        with pytest.raises(ValueError, match="its sparse weights are packed: it cannot become smaller"):
            tfsparse.doctor(tmp_path / "packed", target)
    with pytest.raises(ValueError, match='diagnosed for target="any": expected a Keras .* write target="savedmodel"'):
        tfsparse.doctor(tmp_path / "packed", "any")
    pruned("weight").export(tmp_path / "theirs", verbose=False)
    (tmp_path / "theirs" / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(ValueError, match="theirs cannot be made a TFLite file. TFLite's converter: "):
        tfsparse.doctor(tmp_path / "theirs")


def test_for_channels_the_smaller_model_is_measured(quick):
    diagnosis = tfsparse.doctor(pruned("channel"), "any")
    assert [row.faster for row in diagnosis.rows] == ["yes", "yes", "no"]
    assert "460 of 522 channels are without effect" in str(diagnosis)
    assert [cost.form for cost in diagnosis.measurement.costs] == ["as it is", "after tfsparse.shrink"]
    assert diagnosis.measurement.costs[0].bytes > 3 * diagnosis.measurement.costs[1].bytes


def test_the_reason_is_given_if_nothing_is_measured(monkeypatch):
    assert tfsparse.doctor(pruned(), "xnnpack-arm").why_not_measured == "an Arm processor is needed"

    def refuse(*args):
        raise RuntimeError("the converter does not know this\nand more")

    monkeypatch.setattr(TFLiteCPU, "forms", refuse)
    diagnosis = tfsparse.doctor(pruned())
    assert diagnosis.why_not_measured == "RuntimeError: the converter does not know this" and len(diagnosis.rows) == 3


def test_a_keras_file_and_a_run_directory_have_the_same_diagnosis(tmp_path):
    model = pruned()
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run" / "model.keras")
    by_path, by_run = (
        tfsparse.doctor(path, measure=False) for path in (tmp_path / "run" / "model.keras", str(tmp_path / "run"))
    )
    assert by_path == by_run and [row.pattern for row in by_run.rows] == ["weight"] * 3
    assert "stores every zero like any number, and the optimizer's state beside" in by_run.findings[-1]


def test_weights_that_are_not_zero_where_their_masks_are_are_reported():
    model = pruned()
    model.compile("adam", "mse")
    tfsparse.sparsify(model, "constant", 0.9, total_steps=2).prune_now()
    assert not any("masks" in finding for finding in tfsparse.doctor(model, measure=False).findings)
    model.layers[0].kernel.assign_add(keras.ops.ones((64, 256)))
    (finding,) = [f for f in tfsparse.doctor(model, measure=False).findings if "masks" in f]
    assert finding.startswith("1 weights are not zero")
    assert "apply_masks" in finding and model.layers[0].kernel.path in finding


@pytest.mark.parametrize("target", ["tflite-cpu", "savedmodel", "any"])
def test_frozen_weights_are_examined_like_others(target):
    model = pruned((1, 4))
    expected = tfsparse.doctor(model, target, measure=False)
    model.trainable = False
    assert tfsparse.doctor(model, target, measure=False) == expected


def test_a_frozen_pruned_base_inside_a_new_model_is_examined(tmp_path):
    base = pruned((1, 4))
    base.trainable = False
    model = keras.Sequential([keras.Input((64,)), base, keras.layers.Dense(3, name="head")])
    model.save(tmp_path / "model.keras")
    diagnosis = tfsparse.doctor(tmp_path / "model.keras", measure=False)
    assert [row.pattern for row in diagnosis.rows] == ["(1, 4)"] * 3 + ["dense"]
    assert diagnosis.findings[0].startswith("3 of 4 weights are pruned: 90.00%")


def test_layers_quantised_by_keras_are_reported():
    model = pruned()
    for layer in model.layers:
        layer.quantize("int8")
    diagnosis = tfsparse.doctor(model, measure=False)
    assert any(finding.startswith("3 layers are quantised by Keras (int8)") for finding in diagnosis.findings)


def test_unknown_targets_and_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown target 'tflite': expected .* Did you mean 'tflite-cpu'\?"):
        tfsparse.doctor(pruned(), "tflite")
    (tmp_path / "theirs.tflite").write_bytes(b"")
    with pytest.raises(ValueError, match='diagnosed for target="any": expected a Keras .* write target="tflite-cpu"'):
        tfsparse.doctor(tmp_path / "theirs.tflite", "any")
    with pytest.raises(ValueError, match=r"Cannot read .*theirs\.TFLITE as a TFLite file.* it is empty"):
        tfsparse.doctor((tmp_path / "theirs.tflite").rename(tmp_path / "theirs.TFLITE"))
    with pytest.raises(ValueError, match="none.keras is not a file"):
        tfsparse.doctor(tmp_path / "none.keras")
    with pytest.raises(ValueError, match="Expected a Keras 3 model, a run directory or a .keras file, or a .tflite"):
        tfsparse.doctor(3)
