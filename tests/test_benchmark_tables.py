"""Tables of the benchmarks: what stands between the markers, and nothing else, is theirs; ratios are to dense runs."""

import importlib
import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))

import scale_tables
import speed_page
import tables


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    return tmp_path / "page.md"


def test_a_table_replaces_what_stands_between_its_markers(page):
    page.write_text("before\n<!-- table: a -->\nold\n<!-- end: a -->\nbetween\n<!-- table: b -->\nb\n<!-- end: b -->\n")
    tables.write("page.md", "a", tables.markdown(["x", ""], [["1", "±"]]))
    assert page.read_text(encoding="utf-8") == (
        "before\n<!-- table: a -->\n| x |  |\n|---|---|\n| 1 | ± |\n<!-- end: a -->\nbetween\n<!-- table: b -->\nb\n"
        "<!-- end: b -->\n"
    )


def test_a_page_without_the_markers_stays_as_it_is(page):
    page.write_text("all of it\n")
    with pytest.raises(ValueError, match="page.md has no place for it: add lines <!-- table: a -->"):
        tables.write("page.md", "a", "| x |")
    assert page.read_text() == "all of it\n"


def test_means_have_a_spread_only_where_there_are_several():
    assert (tables.mean([98.0]), tables.mean([98.0, 99.0])) == ("98.00", "98.50 ± 0.71")


@pytest.mark.parametrize("benchmark", ["recalibration", "sensitivity"])
def test_the_page_shows_the_results_that_are_there(benchmark):
    table = importlib.import_module(benchmark).table()
    page = (tables.ROOT / "docs" / "sensitivity.md").read_text(encoding="utf-8")
    assert f"<!-- table: {benchmark} -->\n{table}\n<!-- end: {benchmark} -->\n" in page


def test_the_page_of_channels_that_go_in_training_shows_the_results_that_are_there():
    table = importlib.import_module("channel_training").table()
    page = (tables.ROOT / "docs" / "channel_training.md").read_text(encoding="utf-8")
    assert f"<!-- table: channel_training -->\n{table}\n<!-- end: channel_training -->\n" in page


def test_the_page_of_all_methods_shows_the_results_that_are_there():
    page = (tables.ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    one_shot = importlib.import_module("one_shot")
    for name in one_shot.SEEDS:
        assert f"<!-- table: one_shot_{name} -->\n{one_shot.table(name)}\n<!-- end: one_shot_{name} -->\n" in page
    addons = importlib.import_module("addons")
    for file in addons.FILES:
        assert f"<!-- table: {file} -->\n{addons.table(file)}\n<!-- end: {file} -->\n" in page
    comparison = importlib.import_module("comparison")
    measured = comparison.by_method("mnist_lenet300")
    shown = dict(re.findall(r"\| (\w+): ([\d. ±]+ \([\d.]+\)) \|$", page, re.MULTILINE))
    assert set(shown) == {method for method, row in measured.items() if "0.98" in row}
    assert shown == {method: comparison.cell(measured[method], "0.98") for method in shown}
    assert f"dense: {comparison.cell(measured['dense'], '')}".removesuffix(" (1.00)") in page


def test_what_is_published_stands_beside_the_method_that_it_is_about(monkeypatch):
    comparison = importlib.import_module("comparison")
    summary = {"seed": 0, "accuracy": 0.97, "training_complexity": 0.01}
    found = {"dense": {"": [summary]}, "set": {"0.99": [summary]}, "feather": {"0.99": [summary]}}
    monkeypatch.setattr(comparison, "by_method", lambda file: found)
    assert comparison.mlp().splitlines()[2:] == [
        "| dense | 97.00 (0.01) | 98.78 |",
        "| set | 97.00 (0.01) | 98.14 |",
        "| feather | 97.00 (0.01) |  |",
    ]


def test_the_page_of_speed_is_what_the_results_say():
    assert (tables.ROOT / "docs" / "speed.md").read_text(encoding="utf-8") == speed_page.page()


def _training(masks=0, kept=0, peak=2 * 10**6, first=4.0, without=0.5, updating=None):
    memory = {"weight_bytes": 10**6, "mask_bytes": masks, "optimizer_bytes": 10**6 + kept, "peak_bytes": peak}
    return memory | {"first_step": first, "step_without_update": without, "step_with_update": updating}


def _steps():
    spread = {"min": 1.0, "median": 1.1, "max": 1.25}
    clock = {
        "seconds_per_step": {"dense": {"median": 0.02}},
        "ratio_to_dense": {"every step": spread, "default": spread},
    }
    return {"wall": clock, "processor": clock}


def _scale(*measurements):
    found = [{"part": part, "arguments": arguments, "result": result} for part, arguments, result in measurements]
    about = {"sizes": [10.0, 30.0], "models": ["resnet_20"], "rounds": 3, "machine": {"load_average": [0.5, 1, 2]}}
    return about | {"measurements": found}


MEASURED = {
    "memory": ("memory", [10.0, "dense"], _training()),
    "operations": ("operations", [10.0, "prune"], {"seconds": 3.0, "peak_bytes": 1_500_000}),
    "first_steps": ("first_steps", ["resnet_20", None], {"seconds": 8.0}),
    "programs": ("programs", ["jax", "mlp"], {"dense": {"flops": 100, "bytes": 10**8}}),
    "steps": ("steps", ["mlp", "keras3"], _steps()),
}


def test_memory_is_a_multiple_of_the_weights_and_time_one_of_the_dense_step():
    sparse = _training(250_000, 260_000, 3_500_000, first=6.0, without=0.6, updating=1.0)
    _, rows = scale_tables.tables(_scale(MEASURED["memory"], ("memory", [10.0, "layer, default"], sparse)))["memory"]
    assert rows[0] == ["10", "dense", "0.00", "0.00", "2", "0.00", "1.00", "1.00", ""]
    assert rows[1] == ["10", "layer, default", "0.25", "0.26", "4", "1.50", "1.50", "1.20", "2.00"]


def test_an_operation_is_compared_with_the_dense_step_of_the_same_size():
    other = ("memory", [30.0, "dense"], _training(without=2.0))
    _, rows = scale_tables.tables(_scale(other, MEASURED["memory"], MEASURED["operations"]))["operations"]
    assert rows == [["10", "prune", "3.00", "6.0", "1.50"]]


def test_a_first_step_is_compared_with_that_of_the_same_model():
    sparse = ("first_steps", ["resnet_20", "global"], {"seconds": 10.0})
    other = ("first_steps", ["MobileNetV2", None], {"seconds": 2.0})
    _, rows = scale_tables.tables(_scale(MEASURED["first_steps"], other, sparse))["first_steps"]
    assert rows == [["resnet_20", "with XLA", "8.0", "", "1.25"], ["MobileNetV2", "without XLA", "2.0", "", ""]]


def test_a_program_is_compared_with_the_dense_one_of_its_backend():
    counts = {"dense": {"flops": 100, "bytes": 10**8}, "layer, with an update": {"flops": 110, "bytes": 4 * 10**8}}
    _, rows = scale_tables.tables(_scale(("programs", ["jax", "mlp"], counts)))["programs"]
    assert rows[1] == ["mlp", "jax", "layer, with an update", "400", "4.000", "1.100"]


def test_what_failed_has_no_row():
    failed = ("memory", [10.0, "global, default"], {"error": "the process died"})
    _, rows = scale_tables.tables(_scale(MEASURED["memory"], failed))["memory"]
    assert [row[1] for row in rows] == ["dense"]


def test_the_section_of_large_models_has_all_tables_and_the_command():
    results = _scale(*MEASURED.values())
    section = speed_page.scale_section(results)
    for titles, rows in scale_tables.tables(results).values():
        assert tables.markdown(titles, rows) in section
    command = "--sizes 10 30 --models resnet_20 --rounds 3 --out benchmarks/results/scale.json"
    assert f"`python benchmarks/scale.py {command}`" in section


def test_the_page_of_automatic_sparsities_shows_the_results_that_are_there():
    page = (tables.ROOT / "docs" / "how_sparse.md").read_text(encoding="utf-8")
    table = importlib.import_module("auto").table()
    assert len(table.splitlines()) > 3 and f"<!-- table: auto -->\n{table}\n<!-- end: auto -->\n" in page


def test_the_page_of_nested_trainings_shows_the_results_that_are_there():
    nested = importlib.import_module("nested")
    page = (tables.ROOT / "docs" / "how_sparse.md").read_text(encoding="utf-8")
    again = importlib.import_module("frontier_again").table()
    tables_of = [("forms", nested.forms()), ("again", again), *((file, nested.table(file)) for file in nested.FILES)]
    for name, table in tables_of:
        assert f"<!-- table: {name} -->\n{table}\n<!-- end: {name} -->\n" in page


def test_activation_density_is_compared_with_dense_trainings_of_the_same_seeds(monkeypatch):
    """Trainings of other days, on a faster machine, would spoil the share of the time."""
    benchmark = importlib.import_module("activation_density")
    dense, default = {0: (0.90, 100), 1: (0.95, 10)}, {0: (0.88, 80), 1: (0.95, 8)}
    figures = {"dense": dense, "once": {0: (0.89, 50)}, "default": default}

    def finished(network, part):
        runs = figures[part].items()
        return [{"seed": seed, "summary": {"accuracy": a, "seconds": seconds}} for seed, (a, seconds) in runs]

    monkeypatch.setattr(benchmark, "finished", finished)
    assert benchmark._time("vgg_small", "once") == "0.8 (0.50)"
    assert benchmark._time("vgg_small", "default") == "0.7 (0.80)"
    assert benchmark._difference("vgg_small", "once") == "-1.00 (n = 1)"
    assert benchmark._difference("vgg_small", "default") == "-1.00 ± 12.71 ~"
