"""The chain of trainings of GSM's page: each begins from the networks of the ones before, and none is trained twice."""

import importlib
import pathlib

import pytest

ALL = ["base", "gsm", "ticket", "magnitude", "long_base", "long_ticket", "long_magnitude"]


@pytest.fixture
def chain(monkeypatch, tmp_path):
    """The benchmark with trainings that only leave their files, what was trained with which settings, and the cuts."""
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[1] / "benchmarks")
    benchmark, trained, cuts = importlib.import_module("mnist_gsm"), {}, []

    def train(config, result, folder, part, *sets):
        assert part not in trained and not result.exists()
        trained[part] = (config, sets)
        (folder / part / "savedmodel").mkdir(parents=True)
        result.touch()

    def cut(source, target, compression):
        cuts.append((source.name, target.name, compression))
        target.mkdir()

    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark.trainings, "train", train)
    monkeypatch.setattr(benchmark, "cut", cut)
    return lambda is_long: benchmark.run_all("lenet300", 1, tmp_path / "runs", is_long), trained, cuts, tmp_path


def test_all_parts_begin_from_the_right_ones(chain):
    run_all, trained, cuts, _ = chain
    run_all(is_long=True)
    assert list(trained) == ALL and cuts == [("base", "base_cut", 60), ("long_base", "long_base_cut", 60)]
    assert trained["gsm"] == ("mnist_lenet300_gsm", ("seed=1", "start.weights=base/model.keras"))
    long = ("seed=1", "epochs=200", "steps_per_execution=39")
    assert trained["long_ticket"] == ("mnist_lenet300_ticket", (*long, "start.mask=gsm/model.keras"))
    assert trained["long_magnitude"][1] == (*long, "start.mask=long_base_cut/model.keras")


def test_what_has_a_result_is_trained_again_only_where_its_model_is_needed(chain):
    run_all, trained, _, results = chain
    for part in ALL[:-2]:
        (results / f"lenet300-{part}-seed1.json").touch()
    run_all(is_long=False)
    assert not trained
    run_all(is_long=True)
    assert list(trained) == ["base", "gsm", "long_ticket", "long_base", "long_magnitude"]
