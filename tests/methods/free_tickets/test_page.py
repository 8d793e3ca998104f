"""What the page of FreeTickets shows is what the results say, and its code trains."""

import functools
import importlib
import pathlib
import re

import keras

from tfsparse import testing

ROOT = pathlib.Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "free_tickets.md").read_text(encoding="utf-8")


def test_the_page_shows_the_results_that_are_there(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = importlib.import_module("free_tickets")
    for name, table in (("free_tickets", benchmark.quality_table()), ("free_tickets_bytes", benchmark.bytes_table())):
        assert f"<!-- table: {name} -->\n{table}\n<!-- end: {name} -->\n" in PAGE


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    import tensorflow as tf

    monkeypatch.chdir(tmp_path)
    x, y = testing.small_data()
    scope = {"model": testing.small_model(), "steps_per_epoch": 4, "x_test": x, "y_test": y}
    scope["loss"] = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    scope["train"] = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    quiet = functools.partialmethod(keras.Model.fit, verbose=0, shuffle=False)
    monkeypatch.setattr(keras.Model, "fit", quiet)
    exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], scope)
    assert "ticket_3" in capsys.readouterr().out and (tmp_path / "out" / "ensemble" / "saved_model.pb").is_file()
