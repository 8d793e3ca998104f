"""The page shows the numbers of the run and of the model, each part only where there is one, nothing from elsewhere."""

import html
import json
import re

import keras
import numpy as np
import pytest
from small_config import small
from typer.testing import CliRunner

import tfsparse
from tfsparse import testing
from tfsparse.backend import run_directory
from tfsparse.experiments import experiment
from tfsparse.reporting import page
from tfsparse.reporting.page import drawing, parts
from tfsparse_command.app import app

ROW = {"weight": "dense/kernel", "shape": [4, 2], "target": 0.75, "sparsity": 0.625, "size": 8, "kept": 3}
ROW |= {"flops": 16, "effective_flops": 6, "masked": True}
REPORT = {"model": "net", "rows": [ROW], "parameters": 10, "nonzero_parameters": 5, "sync_stats": None}
REPORT |= {"sparsity": 0.625, "size": 8, "kept": 3, "flops": 16, "effective_flops": 6}


def run(extra=(), last=(), summary=(), **others):
    """Two epochs, with more keys in both (functions of the epoch) or in the last, and more in the summary."""
    epochs = [{"epoch": e, "accuracy": 0.25 * e, "val_accuracy": 0.125 * e, "loss": 2.0 / e} for e in (1, 2)]
    epochs = [entry | {key: value(entry["epoch"]) for key, value in dict(extra).items()} for entry in epochs]
    epochs[-1] |= dict(last)
    summary = {"data": "digits", "model": "mlp", "method": "one_cycle", "asked_sparsity": 0.75, **dict(summary)}
    summary |= {"sparsity": 0.625, "accuracy": 0.8765, "seconds": 12.5}
    config = {"name": "small", "epochs": 2, "prune": {"sparsity": 0.75}}
    environment = {"versions": {"keras": "3.14.15"}, "backend": "tensorflow"}
    found = {"status": "finished", "name": "small", "config": config, "epochs": epochs, "seconds": [1.5, 0.5]}
    return found | {"environment": environment, "summary": summary, "report": REPORT, **others}


def titles(text, tag="h2|summary|figcaption"):
    return [html.unescape(t).strip() for t in re.findall(rf"<(?:{tag})>(.*?)(?: <span>|</)", text, re.DOTALL)]


def tiles(text):
    """The figures at the top: name, value, note."""
    found = re.findall(r"<div><dt>(.*?)</dt><dd><b>(.*?)</b>(?:<span>(.*?)</span>)?</dd></div>", text)
    return [tuple(map(html.unescape, tile)) for tile in found]


def rows(text, title):
    """The cells of the table under `title`."""
    table = re.search(rf">{title}</(?:h2|summary)>.*?<table[^>]*>(.*?)</table>", text, re.DOTALL)[1]
    lines = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [[html.unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line)] for line in lines]


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn while the test runs: `[(epochs, lines), ...]`."""
    calls, curves = [], drawing.curves
    monkeypatch.setattr(drawing, "curves", lambda *arguments: calls.append(arguments) or curves(*arguments))
    return calls


# --------------------------------------------------------------------------------------------------------- the numbers


def test_every_number_is_the_run_s():
    text = page.render(run(extra={"mask_change_rate": lambda e: 0.0625 / e}))
    assert tiles(text) == [
        ("accuracy", "0.8765", ""),
        ("sparsity", "0.6250", "asked 0.75"),
        ("nonzero parameters", "5", "dense 10, ratio 2.00"),
        ("effective FLOPs", "6", "dense 16, ratio 2.67"),
    ]
    assert rows(text, "Every epoch") == [
        ["epoch", "accuracy", "val_accuracy", "loss", "mask_change_rate", "seconds"],
        ["1", "0.2500", "0.1250", "2.0000", "0.0625", "1.5000"],
        ["2", "0.5000", "0.2500", "1.0000", "0.0312", "0.5000"],
    ]
    assert rows(text, "Layers") == [
        ["weight", "shape", "target", "actual", "kept", "of", "FLOPs", "effective FLOPs"],
        ["dense/kernel", "4×2", "0.7500", "0.6250", "3", "8", "16", "6"],
        ["all kernels", "", "", "0.6250", "3", "8", "16", "6"],
    ]
    assert ["method", "one_cycle"] in rows(text, "Summary") and ["seconds", "12.5"] in rows(text, "Summary")
    assert "accuracy" not in {name for name, _ in rows(text, "Summary")}, "it stands at the top"
    assert ["keras", "3.14.15"] in rows(text, "Environment")
    assert "5 of 10 parameters are not zero." in text
    assert "sparsity: 0.75" in text[text.index(">Config<") :]


def test_a_run_of_before_replicas_were_counted_has_its_page():
    text = page.render(run(report={key: value for key, value in REPORT.items() if key != "sync_stats"}))
    assert "5 of 10 parameters are not zero." in text and "Replicas" not in text


def test_a_figure_that_an_epoch_lacks_is_a_gap(drawn):
    widths = run(last={"widths": {"a": 4, "b": 2}, "loss": 1.0})
    widths["epochs"][0] |= {"widths": {"a": 8}}
    page.render(widths)
    (lines,) = [lines for _, lines in drawn if "a" in lines]
    assert lines["a"] == [8, 4] and np.isnan(lines["b"][0]) and lines["b"][1] == 2


def test_every_curve_is_the_run_s(drawn):
    page.render(run(extra={"mask_change_rate": lambda e: 0.0625 / e, "widths": lambda e: {"a": 8 // e, "b": 4}}))
    assert drawn == [
        ([1, 2], {"validation": [0.125, 0.25], "training": [0.25, 0.5]}),
        ([1, 2], {"training": [2.0, 1.0]}),
        ([1, 2], {"mask_change_rate": [0.0625, 0.03125]}),
        ([1, 2], {"a": [8, 4], "b": [4, 4]}),
        ([1, 2], {"seconds": [1.5, 0.5]}),
    ]


def test_curves_are_drawn_at_their_points_and_named():
    (axes,) = drawing.curves([1, 2, 3], {"a": [0.5, 0.25, 0.75], "b": [1, 2, 3]}).axes
    assert [line.get_xydata().tolist() for line in axes.get_lines()] == [
        [[1, 0.5], [2, 0.25], [3, 0.75]],
        [[1, 1], [2, 2], [3, 3]],
    ]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a", "b"]
    assert (axes.get_xlabel(), axes.get_yscale()) == ("epoch", "linear")


@pytest.mark.parametrize("values, scale", [([1, 100], "linear"), ([1, 101], "log"), ([0, 101], "linear")])
def test_only_what_spans_orders_of_magnitude_is_logarithmic(values, scale):
    (axes,) = drawing.curves([1, 2], {"a": values}).axes
    assert axes.get_yscale() == scale
    assert "$" not in drawing.svg(axes.figure, "a"), "exponents are written as mathematics, which SVG text is not"


# ------------------------------------------------------------------------------------------------- what is there or not

ALWAYS = ["Summary", "Over the epochs", "Accuracy", "Loss", "Seconds", "Layers", "Every epoch", "Config", "Environment"]
OPTIONAL = [
    ("Sparsity", {"extra": {"sparsity": lambda e: 0.5}}),
    ("Mask change rate", {"extra": {"mask_change_rate": lambda e: 0.5}}),
    ("Density", {"extra": {"density": lambda e: 0.5}}),
    ("Density of each group", {"extra": {"densities": lambda e: {"a": 0.5}}}),
    ("Widths", {"extra": {"widths": lambda e: {"a": 5}}}),
    ("Multiply-adds", {"extra": {"macs": lambda e: 5}}),
    ("Parameters", {"extra": {"parameters": lambda e: 5}}),
    ("Computation", {"extra": {"macs_share": lambda e: 0.5, "mean_macs_share": lambda e: 0.6}}),
    ("Curvature", {"extra": {"curvature": lambda e: 0.5}}),
    ("Alpha", {"extra": {"alpha": lambda e: 0.5}}),
    ("Bytes between replicas", {"extra": {"mask_bytes": lambda e: 5}}),
    ("Some other number", {"extra": {"some_other_number": lambda e: 5}}),
    ("Before and after the cut", {"last": {"uncut_accuracy": 0.5, "cut_accuracy": 0.25}}),
]


def test_a_dense_run_has_nothing_else():
    assert sorted(titles(page.render(run()))) == sorted(ALWAYS)


@pytest.mark.parametrize("title, options", OPTIONAL, ids=[title for title, _ in OPTIONAL])
def test_what_a_run_has_is_shown(title, options):
    assert sorted(titles(page.render(run(**options)))) == sorted([*ALWAYS, title])


def test_every_chart_is_tried_above():
    assert {c.title for c in parts.CHARTS} <= {*ALWAYS, *(title for title, _ in OPTIONAL)}


def test_the_cut_is_a_table_of_the_last_epoch():
    text = page.render(run(last={"uncut_accuracy": 0.5, "cut_accuracy": 0.25}))
    expected = [["", "epoch 2"], ["uncut_accuracy", "0.5000"], ["cut_accuracy", "0.2500"]]
    assert rows(text, "Before and after the cut") == expected


def test_what_a_search_for_the_sparsity_saw(drawn):
    seen = {"sparsity": lambda e: 0.5 * e - 0.5, "drop_limit": lambda e: 0.1 * e, "level_holds": lambda e: e % 2}
    text = page.render(run(extra=seen))
    assert rows(text, "Search for the sparsity") == [
        ["epoch", "sparsity", "validation", "limit", ""],
        ["1", "0.0000", "0.1250", "0.1000", "holds"],
        ["2", "0.5000", "0.2500", "0.2000", "misses"],
    ]
    assert drawn[0][1]["limit of the search"] == [0.1, 0.2] and "Level holds" not in titles(text)


FRONTIER = {"sha256": "abc", "metric": "accuracy", "num_examples": 1234, "is_nested": False, "target": "tflite-cpu"}
FRONTIER |= {
    "rows": [
        {"sparsity": s, "value": 0.9 - s / 9, "low": None if s else 0.8, "high": None if s else 0.95, "macs": 12345}
        | {"saved_model_bytes": 5, "bytes": None, "milliseconds": None if s else {"min": 1, "median": 2, "max": 3}}
        for s in (0.0, 0.9)
    ]
}


def test_a_frontier_that_was_measured_of_the_present_model_is_shown():
    checkpoints = [{"sha256": "old", "random_states": []}, {"sha256": "abc", "random_states": []}]
    text = page.render(run(frontier=FRONTIER, checkpoints=checkpoints))
    assert rows(text, "Frontier")[1:] == [
        ["0", "0.9000", "0.8000 to 0.9500", "12,345", "5", "–", "2 (1 to 3)"],
        ["0.9", "0.8000", "–", "12,345", "5", "–", "–"],
    ]
    assert "accuracy against sparsity" in titles(text) and "On 1,234 examples." in text
    assert "Only the sparsity of this run was trained" in text
    assert "Only the sparsity" not in page.render(run(frontier=FRONTIER | {"is_nested": True}, checkpoints=checkpoints))
    assert "Frontier" not in titles(page.render(run(frontier=FRONTIER, checkpoints=checkpoints[:1])))


def test_what_replicas_sent():
    text = page.render(run(report=REPORT | {"sync_stats": {"num_syncs": 3, "bytes": 4096}}))
    assert "Replicas compared their masks 3 times; each sent 4,096 bytes." in text


def test_a_run_that_shrank_shows_both_sizes_and_has_no_times_of_its_epochs():
    text = page.render(run(summary={"parameters": 3149, "dense_parameters": 6570}, seconds=[2.0]))
    assert ("parameters", "3,149", "dense 6,570, ratio 2.09") in tiles(text)
    assert "Seconds" not in titles(text)


def test_a_size_without_the_dense_one_has_no_ratio():
    text = page.render(run(summary={"parameters": 3149}, report=REPORT | {"flops": None, "effective_flops": 592}))
    assert ("parameters", "3,149", "dense –") in tiles(text)
    assert ("effective FLOPs", "592", "dense –") in tiles(text)


def test_a_run_that_is_not_finished_says_so():
    unfinished = {key: value for key, value in run(status="running").items() if key not in ("summary", "report")}
    text = page.render(unfinished | {"epochs": unfinished["epochs"][:1], "seconds": [1.5]})
    assert "Not finished: 1 of 2 epochs." in text
    assert not {"Summary", "Layers"} & {*titles(text)}
    begun = page.render(unfinished | {"epochs": [], "seconds": []})
    assert titles(begun) == ["Config", "Environment"]


def test_an_epoch_that_lacks_a_number_is_a_gap(drawn):
    old = run(extra={"mask_change_rate": lambda e: 0.5}, last={"mask_change_rate": 0.25})
    old["epochs"].insert(0, {"epoch": 0, "accuracy": 0.1, "val_accuracy": 0.1, "loss": 3.0})
    text = page.render(old | {"seconds": [1.0, 1.0, 1.0]})
    (mask_change_rate,) = [lines["mask_change_rate"] for _, lines in drawn if "mask_change_rate" in lines]
    assert np.isnan(mask_change_rate[0]) and mask_change_rate[1:] == [0.5, 0.25]
    assert rows(text, "Every epoch")[1][4] == "–"


# ------------------------------------------------------------------------------------------------------ the page itself


def test_names_are_text_and_not_html():
    evil = '<script>alert("$x$")</script>'
    found = run(extra={"widths": lambda e: {evil: e, "$": e}, evil: lambda e: e}, summary={"method": evil})
    text = page.render(found | {"report": REPORT | {"rows": [ROW | {"weight": evil}]}, "name": evil})
    assert "<script" not in text
    assert rows(text, "Layers")[1][0] == evil
    shown = html.unescape(text).count('alert("$x$")')
    assert shown == 8, "titles of the page (2), of a chart, of its figure; summary, layers, every epoch; a legend"


def test_nothing_comes_from_elsewhere():
    text = page.render(run(extra={"mask_change_rate": lambda e: 0.5}), testing.small_model())
    assert not re.search(r"https?:|//|url\((?!#)|@import|<script|<link|<img|<iframe|src=", text)


def test_figures_take_the_colour_of_the_page():
    text = drawing.svg(drawing.curves([1, 2], {"a": [1, 2]}), 'a "title"')
    assert text.startswith('<svg role="img" aria-label="a &#34;title&#34;" ')
    assert "currentColor" in text and "#000000" not in text and "#010203" not in text


def test_the_same_run_is_the_same_page():
    assert page.render(run()) == page.render(run())


# ------------------------------------------------------------------------------------------------------------ the model


def test_what_a_user_asks_first_stands_first_dense_beside_sparse():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="dense")])
    tfsparse.prune(model, 0.75)
    text = page.render(run(), model, milliseconds=[("TFLite", 0.5, 0.125)], dense_accuracy=0.9)
    accuracy, sparsity, parameters, flops, saved_model, tflite, times = tiles(text)
    assert text.index("<dl") < text.index("<h2>")
    assert accuracy == ("accuracy", "0.8765", "dense 0.9000")
    assert sparsity == ("sparsity", "0.6250", "asked 0.75"), "of the run's report"
    assert (parameters[0], flops[0]) == ("nonzero parameters", "effective FLOPs")
    sizes = {form: size for form, size, *_ in rows(text, "Sizes")}
    for kind, found in {"SavedModel": saved_model, "TFLite": tflite}.items():
        dense, sparse = (int(sizes[f"{kind}, {form}"].replace(",", "")) for form in ("dense", "float32"))
        assert found == (f"{kind}, bytes", f"{sparse:,}", f"dense {dense:,}, ratio {dense / sparse:.2f}")
    assert times == ("TFLite, ms per example", "0.1250", "dense 0.5000, ratio 4.00")


def dead_model():
    """Of four hidden units two reach nothing: their weights to the outputs are zero."""
    hidden, out = keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2, name="out")
    model = keras.Sequential([keras.Input((3,)), hidden, out])
    out.kernel.assign([[1, 2], [0, 0], [0, 0], [0, 3]])
    return model


def test_of_a_model_alone_layers_channels_without_effect_and_sizes():
    model = dead_model()
    text = page.render(model=model)
    assert titles(text) == ["Layers", "Channels without effect", "Sizes"]
    assert rows(text, "Layers")[2] == [model.layers[1].kernel.path, "4×2", "–", "0.6250", "3", "8", "16", "6"]
    dead = rows(text, "Channels without effect")[1:]
    assert dead == [["hidden", "4", "2", ""], ["out", "2", "0", "it is an output of the model"]]
    raw = tfsparse.sizes(model).rows[0]
    assert rows(text, "Sizes")[1] == ["raw weights", f"{raw.bytes:,}", "1.0", str(raw.sparse_bytes), raw.needs]
    assert [row[0] for row in rows(text, "Sizes")[-3:]] == ["TFLite, dense", "TFLite, float32", "TFLite, float16"]


def test_a_form_that_the_model_cannot_have_says_why():
    model = keras.Sequential([keras.Input((None, 8)), keras.layers.Dense(4)])
    row = rows(page.render(model=model), "Sizes")[-1]
    assert row[:4] == ["TFLite, float32", "–", "–", "–"] and "pass representative=" in row[4]


def test_what_cannot_be_measured_says_why():
    class Own(keras.Model):
        def __init__(self, name):
            super().__init__(name=name)
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own(name="own")
    model(np.ones((1, 3), "float32"))
    text = page.render(model=model)
    note = re.search(r">Channels without effect</h2>\s*<p class=\"note\">(.*?)</p>", text)[1]
    assert note.startswith("Not measured. Model &#39;own&#39; is not a graph of layers")


# -------------------------------------------------------------------------------------------------- the command line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "run"
    experiment.train(small("deterministic=false"), folder)
    return folder


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_page_of_a_run(trained, tmp_path):
    done = invoke("report", trained, "--html", tmp_path / "run.html")
    assert (done.exit_code, done.stdout) == (0, f"Page: {tmp_path / 'run.html'}\n"), done.output
    text, record = (tmp_path / "run.html").read_text(encoding="utf-8"), run_directory.read(trained)
    expected = {"Summary", "Sparsity", "Layers", "Channels without effect", "Sizes", "Every epoch", "Config"}
    assert expected <= {*titles(text)}
    (head, *epochs) = rows(text, "Every epoch")
    accuracies = [cells[head.index("val_accuracy")] for cells in epochs]
    assert accuracies == [f"{entry['val_accuracy']:.4f}" for entry in record["epochs"]]
    kept = [int(cells[4].replace(",", "")) for cells in rows(text, "Layers")[1:-1]]
    assert kept == [row["kept"] for row in record["report"]["rows"]]


def test_the_page_of_a_model_file(trained, tmp_path):
    assert invoke("report", trained / "model.keras", "--html", tmp_path / "model.html").exit_code == 0
    text = (tmp_path / "model.html").read_text()
    assert titles(text) == ["Layers", "Channels without effect", "Sizes"]
    assert [name for name, *_ in tiles(text)] == [
        "sparsity",
        "nonzero parameters",
        "effective FLOPs",
        "SavedModel, bytes",
        "TFLite, bytes",
        "TFLite, ms per example",
    ]


def dense_record(folder, **summary):
    """The directory of a run without pruning."""
    record = run_directory.read(folder)
    record["summary"] |= {"sparsity": 0.0, "asked_sparsity": None, "accuracy": 0.9} | summary
    return json.dumps(record)


def test_the_accuracy_of_a_dense_run_stands_beside(trained, tmp_path):
    (tmp_path / "run.json").write_text(dense_record(trained))
    assert invoke("report", trained, "--html", tmp_path / "run.html", "--dense", tmp_path).exit_code == 0
    accuracy = tiles((tmp_path / "run.html").read_text(encoding="utf-8"))[0]
    assert accuracy == ("accuracy", f"{run_directory.read(trained)['summary']['accuracy']:.4f}", "dense 0.9000")


@pytest.mark.parametrize(
    "summary, message",
    [
        ({"sparsity": 0.5}, "is not a finished run without pruning"),
        ({"model": "other"}, "expected the network and the data of the page"),
    ],
)
def test_another_run_than_the_dense_one_is_refused(trained, tmp_path, summary, message):
    (tmp_path / "run.json").write_text(dense_record(trained, **summary))
    with pytest.raises(run_directory.RunError, match=message):
        page.write(trained, tmp_path / "run.html", dense=tmp_path)
    assert not (tmp_path / "run.html").exists()


def test_the_page_of_a_record_alone(trained, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(run_directory.read(trained)))
    assert invoke("report", tmp_path, "--html", tmp_path / "run.html").exit_code == 0
    assert not {"Channels without effect", "Sizes"} & {*titles((tmp_path / "run.html").read_text())}


def test_what_is_neither_is_refused(tmp_path):
    done = invoke("report", tmp_path, "--html", tmp_path / "a.html")
    assert (done.exit_code, [*tmp_path.iterdir()]) == (2, []) and "holds no run" in done.stderr
    done = invoke("report", tmp_path / "none.keras", "--html", tmp_path / "a.html")
    assert (done.exit_code, [*tmp_path.iterdir()]) == (2, []) and "is not a file" in done.stderr


def test_weights_that_stay_dense_have_a_table_with_their_reasons():
    dense = [{"weight": "cell/w", "shape": [4, 8], "size": 32, "because": "its name does not end in 'kernel'"}]
    excluded = ROW | {"weight": "out/kernel", "sparsity": 0.0, "dense_because": "it is excluded"}
    frozen = ROW | {"weight": "base/kernel", "dense_because": "it is frozen"}  # and sparse
    text = page.render(run(report=REPORT | {"rows": [ROW, excluded, frozen], "dense": dense}))
    assert "Dense weights" in text and "it is excluded" in text and "cell/w" in text and "4×8" in text
    assert "it is frozen" not in text
    assert "Dense weights" not in page.render(run(report=REPORT))
