"""Comparisons: every run that the file asks for, each once, whatever it is broken off by."""

import pytest
import yaml
from small_config import CONFIGS, SMALL, configs

from tfsparse.experiments import assembly, config, experiment, matrix
from tfsparse.experiments.config import ConfigError

COMPARISONS = configs(CONFIGS / "comparison")
FILE = {
    "base": SMALL | {"prune": None, "epochs": 1},
    "sparsities": [0.5, 0.75],
    "seeds": [3, 4],
    "methods": {
        "dense": [],
        "agp": ["prune={schedule: polynomial, sparsity: $sparsity}"],
        "gsm": ["optimizer={name: gsm, compression: $compression}"],
    },
}


def write(path, **changes):
    path.write_text(yaml.safe_dump(FILE | changes, sort_keys=False))
    return path


def test_methods_times_sparsities_times_seeds(tmp_path):
    runs = matrix.load(write(tmp_path / "a.yaml"))
    pairs = [f"{method}-{s}-seed{seed}" for method in ("agp", "gsm") for s in (0.5, 0.75) for seed in (3, 4)]
    assert list(runs) == ["dense-seed3", "dense-seed4", *pairs]
    assert all(name.endswith(f"seed{run.seed}") for name, run in runs.items())
    assert runs["agp-0.75-seed3"].prune.sparsity == 0.75 and runs["agp-0.75-seed3"].prune.schedule.name == "polynomial"
    assert runs["gsm-0.75-seed4"].optimizer.options == {"compression": 4.0}
    assert runs["dense-seed3"].prune is None and {run.epochs for run in runs.values()} == {1}


def test_overrides_are_of_the_base_and_methods_come_after(tmp_path):
    runs = matrix.load(write(tmp_path / "a.yaml"), ["epochs=7", "optimizer.learning_rate=0.5", "seed=9"])
    assert {run.epochs for run in runs.values()} == {7} and {run.seed for run in runs.values()} == {3, 4}
    assert runs["agp-0.5-seed3"].optimizer.learning_rate == 0.5
    assert runs["gsm-0.5-seed3"].optimizer.learning_rate is None


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_the_comparisons_of_this_project_ask_what_their_names_say(path):
    assert path.read_text().startswith("# ")
    for name, run in matrix.load(path).items():
        assembly.callbacks(run, first_batch=lambda number=1: ([[0.0]], [0]))
        assembly.optimizer(run.optimizer, total_steps=100)
        of_the_method = run.prune.sparsity if name.startswith("nested") else 0  # one training for all sparsities
        asked = name.split("-")[1] if name.count("-") == 2 else of_the_method
        is_auto = name.startswith("auto")  # validation decides
        assert assembly.target_sparsity(run) == (None if is_auto else pytest.approx(float(asked)))
        assert (assembly.label(run) == "dense") == name.startswith("dense")


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def test_broken_off_it_goes_on_and_trains_nothing_twice(tmp_path, monkeypatch):
    runs = matrix.load(write(tmp_path / "a.yaml", methods={"dense": []}))
    begun, train = [], experiment.train

    def kill_the_second(config, *args, **options):
        if config.seed == 4:
            raise Killed
        return train(config, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "train", kill_the_second)
        with pytest.raises(Killed):
            matrix.train(runs, tmp_path / "runs", on_run_begin=begun.append)
    first = (tmp_path / "runs" / "dense-seed3" / "run.json").stat().st_mtime_ns
    records = matrix.train(runs, tmp_path / "runs", on_run_begin=begun.append)
    assert begun == ["dense-seed3", "dense-seed4"] * 2
    assert (tmp_path / "runs" / "dense-seed3" / "run.json").stat().st_mtime_ns == first
    assert [record["summary"]["seed"] for record in records.values()] == [3, 4]
    assert len({record["summary"]["accuracy"] for record in records.values()}) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsitys": [0.9]}, "sparsitys: Extra inputs.*Expected base, sparsities"),
        ({"sparsities": []}, "sparsities: Tuple should have at least 1 item.*Expected base, sparsities"),
        ({"sparsities": [0.5, 1]}, "sparsities.1: Input should be less than 1.*Expected base, sparsities"),
        ({"sparsities": None}, "sparsities: Input should be a valid tuple"),
        ({"seeds": []}, "seeds: Tuple should have at least 1 item"),
        ({"methods": {}}, "methods: Dictionary should have at least 1 item"),
        ({"methods": {"agp": "prune.sparsity=0.9"}}, "methods.agp"),
        ({"methods": {"agp": ["prune.sparsitty=$sparsity"]}}, "agp-0.5-seed3.*did you mean prune.sparsity"),
        ({"methods": {"agp": ["prune.sparsity=$sparsty"]}}, "agp-0.5-seed3.*prune.sparsity='.sparsty'"),
    ],
)
def test_what_is_no_comparison_is_named(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        matrix.load(write(tmp_path / "a.yaml", **changes))


def test_a_config_is_no_comparison(tmp_path):
    (tmp_path / "empty.yaml").touch()
    with pytest.raises(ConfigError, match="is not a comparison: the file: Input should be a valid dictionary"):
        matrix.load(tmp_path / "empty.yaml")
    with pytest.raises(ConfigError, match="is not a comparison"):
        matrix.load(config.QUICK_START)
