"""Foreign files are measured in a process of their own, whose end is a sentence; of signatures the served one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from doctor.golden_models import pruned

import tfsparse
from tfsparse.doctor import measurement
from tfsparse.doctor.timing import Summary
from tfsparse.export import tflite_file


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(measurement, "ROUNDS", 2)
    monkeypatch.setattr(measurement, "WINDOW", 1e-3)


class Lookup(tf.Module):
    """Two graphs. The first in the file, by its name, cannot be run on an example of zeros; the served one can."""

    def __init__(self):
        self.kernel = tf.Variable(np.random.default_rng(0).normal(size=(64, 64)).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec([3], tf.int32)])
    def a_lookup(self, i):
        return {"y": tf.gather(self.kernel, i - 100)}

    @tf.function(input_signature=[tf.TensorSpec([1, 64], tf.float32)])
    def multiply(self, x):
        return {"y": x @ self.kernel}


def file_of(folder, **signatures):
    """A TFLite file with these signatures."""
    module = Lookup()
    signatures = {key: getattr(module, name) for key, name in signatures.items()}
    tf.saved_model.save(module, str(folder / "both"), signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "both"), signature_keys=list(signatures))
    path = folder / "both.tflite"
    path.write_bytes(converter.convert())
    return path


def test_of_several_signatures_the_served_one_is_measured(tmp_path):
    path = file_of(tmp_path, a_lookup="a_lookup", serving_default="multiply")
    assert tflite_file.signatures(path.read_bytes()) == {"a_lookup": 0, "serving_default": 1}
    diagnosis = tfsparse.doctor(path)
    assert diagnosis.why_not_measured is None
    assert [cost.form for cost in diagnosis.measurement.costs] == ['the file, signature "serving_default"']


def test_of_several_signatures_without_a_served_one_the_first_is_measured(tmp_path):
    content = file_of(tmp_path, encode="multiply", look="a_lookup").read_bytes()
    assert measurement.TFLiteForm.from_content("the file", content) == (
        measurement.TFLiteForm('the file, signature "encode"', content, signature=None)
    )


def test_another_graph_than_the_first_is_run(tmp_path):
    content = file_of(tmp_path, a_lookup="a_lookup", serving_default="multiply").read_bytes()
    assert measurement.TFLiteForm.from_content("the file", content).run()["y"].shape == (1, 64)


def form(seconds):
    """A file that takes some seconds in each round, in this process."""
    return measurement.TFLiteForm("file", b"%f" % seconds, None)


def test_milliseconds_are_those_of_all_rounds_of_all_processes(monkeypatch):
    """Here the first round takes the number in the file; the second process is twice as fast, the third equal."""
    speeds = iter((2, 1))

    def time(forms, *_, speed=1):
        return [[float(f.content) / speed, 4 * float(f.content) / speed] for f in forms]

    monkeypatch.setattr(measurement, "_time_in_child", lambda forms: time(forms, speed=next(speeds)))
    monkeypatch.setattr(measurement, "_time", time)
    times, num_processes = measurement.milliseconds([form(1), form(3)])
    assert num_processes == 3
    assert times == [Summary(500, 1500, 4000), Summary(1500, 4500, 12000)]


def test_what_cannot_be_sent_to_another_process_is_measured_in_this_one():
    times, num_processes = measurement.milliseconds([measurement.Form("own", 1, lambda: None)] * 2)
    assert (len(times), num_processes) == (2, 1)


@pytest.mark.exhaustive
def test_files_are_run_in_three_processes(tmp_path):
    tfsparse.export_tflite(pruned((1, 4)), tmp_path / "out.tflite")
    file = measurement.TFLiteForm.from_content("the file", (tmp_path / "out.tflite").read_bytes())
    times, num_processes = measurement.milliseconds([file, file])
    assert num_processes == 3 and all(0 < t.min <= t.median <= t.max for t in times)


def unpacked_to_another_shape():
    """A file that is read without complaint, and on which TFLite's interpreter writes beyond its memory."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 8)), keras.layers.Conv2D(64, 3)])
    tfsparse.prune(model, 0.9, tfsparse.Magnitude(scope="layer"))
    return model


def test_a_crash_of_the_interpreter_is_a_sentence(tmp_path):
    tfsparse.export_tflite(unpacked_to_another_shape(), tmp_path / "out.tflite")
    model = tflite_file._read((tmp_path / "out.tflite").read_bytes())
    graph = model.subgraphs[0]
    unpack = next(o for o in graph.operators if tflite_file._operation(model, o) in tflite_file._PASSED_ON)
    graph.tensors[unpack.outputs[0]].shape[2] += 2048
    (tmp_path / "theirs.tflite").write_bytes(tflite_file._written(model))
    diagnosis = tfsparse.doctor(tmp_path / "theirs.tflite")
    assert diagnosis.why_not_measured.startswith("TFLite's interpreter crashed (SIG") and len(diagnosis.rows) == 1
    assert "not measured: TFLite's interpreter crashed" in str(diagnosis)


def test_measuring_has_a_time_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "LIMIT", 0.1)
    tfsparse.export_tflite(pruned((1, 4)), tmp_path / "out.tflite")
    assert tfsparse.doctor(tmp_path / "out.tflite").why_not_measured == (
        "TFLite's interpreter took longer than 0.1 seconds"
    )


def test_a_form_of_ones_own_is_measured_in_this_process():
    calls = []
    measured = measurement.measure([measurement.Form("mine", 8, lambda: calls.append(1))])
    assert calls and measured.costs[0].bytes == 8 and measured.speedup is None
