"""Figures show the numbers of the runs, under titles, axes and legends that can be read alone."""

import pytest

from tfsparse.experiments import plots


def run(seed=0, accuracy=0.97, asked=0.9, method="one_cycle, magnitude", model="lenet_300_100", sparsity=None):
    epochs = [{"epoch": e, "accuracy": 0.1 * e, "val_accuracy": 0.2 * e, "sparsity": 0.3 * e} for e in (1, 2, 3)]
    if asked == 0:
        epochs = [{key: value for key, value in epoch.items() if key != "sparsity"} for epoch in epochs]
    summary = {"data": "mnist", "model": model, "method": method, "seed": seed, "asked_sparsity": asked}
    summary |= {"sparsity": asked if sparsity is None else sparsity, "accuracy": accuracy, "seconds": 1.0}
    return {"epochs": epochs, "summary": summary}


RUNS = [
    run(seed=0, accuracy=0.96),
    run(seed=1, accuracy=0.98),
    run(asked=0.95, accuracy=0.95),
    run(asked=0.0, accuracy=0.99, method="dense"),
]


def lines(axes):
    return {line.get_label(): [list(values) for values in line.get_data()] for line in axes.get_lines()}


def test_groups_take_seeds_together():
    found = plots.groups(reversed(RUNS))
    assert [(g.method, g.target_sparsity, len(g.runs)) for g in found] == [
        ("dense", 0.0, 1),
        ("one_cycle, magnitude", 0.9, 2),
        ("one_cycle, magnitude", 0.95, 1),
    ]
    assert found[1].mean("accuracy") == pytest.approx(0.97)
    assert found[1].deviation("accuracy") == pytest.approx(0.0141421, abs=1e-6)
    assert found[2].deviation("accuracy") == 0.0


def test_figures_by_seed_are_means_of_runs_with_the_same_seed():
    (group,) = plots.groups([run(seed=3, accuracy=0.9), run(seed=5, accuracy=0.7), run(seed=3, accuracy=0.8)])
    assert group.by_seed("accuracy") == {3: pytest.approx(0.85), 5: 0.7}


def test_the_best_is_that_of_the_same_data_model_and_target():
    better, other_model = run(accuracy=0.98, method="agp"), run(accuracy=0.99, model="lenet_5")
    found = plots.best_of(plots.groups([*RUNS, better, other_model]))
    assert {setting: group.method for setting, group in found.items()} == {
        ("mnist", "lenet_300_100", 0.0): "dense",
        ("mnist", "lenet_300_100", 0.9): "agp",
        ("mnist", "lenet_300_100", 0.95): "one_cycle, magnitude",
        ("mnist", "lenet_5", 0.9): "one_cycle, magnitude",
    }


def test_training_draws_accuracy_and_sparsity_over_epochs():
    accuracy, sparsity = plots.training(run()).axes
    assert lines(accuracy)["validation accuracy"] == [[1, 2, 3], pytest.approx([0.2, 0.4, 0.6])]
    assert lines(accuracy)["training accuracy"] == [[1, 2, 3], pytest.approx([0.1, 0.2, 0.3])]
    assert lines(sparsity)["sparsity"] == [[1, 2, 3], pytest.approx([0.3, 0.6, 0.9])]
    assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("epoch", "accuracy")
    assert "fraction of zeros" in sparsity.get_ylabel()
    assert "one_cycle, magnitude at sparsity 0.9" in accuracy.get_title()


def test_training_of_a_network_that_shrank_draws_density_and_size():
    shrunk = run(asked=0.0, method="activation density")
    for entry, density, macs in zip(shrunk["epochs"], (0.4, 0.5, 0.8), (1, 1, 0.25), strict=True):
        entry |= {"density": density, "macs_share": macs}
    _, shares = plots.training(shrunk).axes
    assert list(lines(shares).values()) == [[[1, 2, 3], [0.4, 0.5, 0.8]], [[1, 2, 3], [1, 1, 0.25]]]
    assert shares.get_ylabel() == "fraction"


def test_training_legend_names_every_line():
    (legend,) = plots.training(run()).legends
    assert [text.get_text() for text in legend.get_texts()] == ["validation accuracy", "training accuracy", "sparsity"]


def test_training_of_a_dense_run_has_no_sparsity():
    dense = run(asked=0.0, method="dense")
    dense["epochs"] = [entry | {"macs_share": 1.0} for entry in dense["epochs"]]
    assert len(plots.training(dense).axes) == 1
    figure = plots.training(run(asked=0.0, method="dense"))
    assert len(figure.axes) == 1
    assert "sparsity" not in figure.axes[0].get_title()


def test_comparison_draws_means_over_seeds_and_dense_as_a_level():
    (axes,) = plots.comparison(RUNS).axes
    drawn = lines(axes)
    assert drawn["one_cycle, magnitude"] == [[0.9, 0.95], pytest.approx([0.97, 0.95])]
    assert drawn["dense"][1] == [0.99, 0.99]
    assert list(axes.get_xticks()) == [0.9, 0.95]
    assert axes.figure.get_suptitle() == "lenet_300_100 on mnist, mean of 1 to 2 runs"


def test_comparison_draws_training_complexity_where_all_runs_know_it():
    known = [run(asked=asked, accuracy=0.9, method="agp") for asked in (0.9, 0.95)]
    for one, complexity in zip(known, (0.4, 0.3), strict=True):
        one["summary"] |= {"training_complexity": complexity}
    _, axes = plots.comparison(known).axes
    assert lines(axes)["agp"] == [[0.4, 0.3], [0.9, 0.9]] and axes.get_xlabel() == "training complexity (1: dense)"
    assert len(plots.comparison([*known, run()]).axes) == 1


def test_comparison_stands_at_the_actual_sparsity():
    (axes,) = plots.comparison([run(asked=0.9, sparsity=0.87)]).axes
    assert lines(axes)["one_cycle, magnitude"][0] == [0.87]


def test_what_nobody_asked_for_stands_where_it_came_out():
    dst = [run(seed=i, asked=None, sparsity=0.9 + 0.02 * i, accuracy=0.9, method="dst (alpha=0.0005)") for i in (0, 1)]
    (group,) = plots.groups(dst)
    assert group.target_sparsity is None and group.mean("sparsity") == pytest.approx(0.91)
    (axes,) = plots.comparison([*dst, *RUNS]).axes
    assert [line.get_xdata() for line in axes.get_lines() if "dst" in line.get_label()] == [[pytest.approx(0.91)]]
    assert list(axes.get_xticks()) == [0.9, 0.95]
    assert "at sparsity" not in plots.training(dst[0]).axes[0].get_title()


def test_a_method_with_and_without_a_target_gives_two_lines():
    free, aimed = run(asked=None, sparsity=0.8, method="pll"), run(asked=0.9, method="pll")
    assert [group.target_sparsity for group in plots.groups([aimed, free])] == [None, 0.9]
    (axes,) = plots.comparison([aimed, free]).axes
    drawn = lines(axes)
    assert (drawn["pll, no target"][0], drawn["pll"][0]) == ([0.8], [0.9])


def test_names_are_drawn_as_they_are(tmp_path):
    odd = run(method="a$b$ \x1b[2J", model="$\\frac$")
    figure = plots.comparison([odd, run()])
    plots.save(figure, tmp_path / "a.png")
    plots.save(plots.training(odd), tmp_path / "b.png")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert r"a$b$ \x1b[2J: $\frac$ on mnist" in names


def test_comparison_of_different_models_says_which():
    figure = plots.comparison([run(), run(model="mlp")])
    (axes,), (legend,) = figure.axes, figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["one_cycle, magnitude: lenet_300_100 on mnist", "one_cycle, magnitude: mlp on mnist"]
    marked = [line for line in axes.get_lines() if line.get_label() in names]
    assert len({line.get_color() for line in marked}) == len({line.get_marker() for line in marked}) == 2


def test_sparsities_that_are_equal_for_all_practical_purposes_look_so():
    methods = {"agp": 0.95, "set": 0.9499}
    (axes,) = plots.comparison([run(method=m, asked=0.95, sparsity=s) for m, s in methods.items()]).axes
    low, high = axes.get_xlim()
    assert low < 0.9499 < 0.95 < high and high - low == pytest.approx(0.02)
    assert axes.figure.get_suptitle().endswith(", one run each")


def test_the_legend_of_many_methods_hides_no_line():
    figure = plots.comparison([run(method=f"a method with a rather long name {i}") for i in range(10)])
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    assert len(legend.get_texts()) == 10
    assert not axes.get_tightbbox().overlaps(legend.get_window_extent())


def test_save_writes_the_picture_and_nothing_else(tmp_path):
    plots.save(plots.training(run()), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["plot", "plot.xyz"])
def test_save_refuses_an_unknown_format(tmp_path, name):
    with pytest.raises(ValueError, match=rf"write .*{name}\.png"):
        plots.save(plots.training(run()), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
