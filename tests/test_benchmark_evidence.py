"""What the page of evidence counts and compares: FLOPs of all trainings of a method, the front, ratios by seed."""

import importlib
import pathlib

import pytest

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def evidence(monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("evidence")


def run(share, accuracy=0.98, epochs=10, data="mnist", prune=None, asked=0.95):
    summary = {"training_complexity": share, "accuracy": accuracy, "data": data, "asked_sparsity": asked}
    return {"summary": summary, "epochs": [{}] * epochs, "config": {"prune": prune}}


def results_of(evidence, monkeypatch, found):
    monkeypatch.setattr(evidence, "records", lambda network: found)
    return evidence.results("mnist_lenet300")


def test_a_method_pays_for_every_training_that_it_needs(evidence, monkeypatch):
    found = {
        "dense-seed0": run(1.0),
        "three_stages-0.95-seed0": run(0.7, epochs=14),
        "fine_tuned-0.95-seed0": run(0.05, epochs=4),
        "rewound-0.8-seed0": run(0.2),
        "rewound-0.95-seed0": run(0.05),
        "rewound-0.98-seed0": run(0.02),
        "agp_0_30-0.95-seed0": run(0.12),
    }
    rows = results_of(evidence, monkeypatch, found)
    costs = {(method, s): row[0][1] for method, by in rows.items() for s, row in by.items()}
    assert costs == {
        ("dense", 0.0): 1.0,
        ("three_stages", 0.95): pytest.approx(0.98),
        ("fine_tuned", 0.95): pytest.approx(1 + 0.02),
        ("rewound", 0.8): pytest.approx(1.2),
        ("rewound", 0.95): pytest.approx(1.25),
        ("rewound", 0.98): pytest.approx(1.27),
        ("agp_0_30", 0.95): pytest.approx(0.12),
    }


def test_dense_gradients_are_paid_for(evidence):
    assert evidence.flops("feather", run(0.1)) == pytest.approx(0.1 + 0.9 / 3)
    prune = {"schedule": {"name": "constant", "updates": 10}, "pruner": {"name": "rigl"}}
    per_step = 8 / 4680  # every 468 steps, until three quarters of 4,680
    assert evidence.flops("rigl", run(0.1, prune=prune)) == pytest.approx(0.1 + per_step * 0.9 / 3)


def test_the_front_has_what_no_cheaper_method_reaches(evidence):
    points = {"set": (97, 0.1), "pll": (98, 0.3), "agp": (98, 0.2), "acdc": (97.5, 0.5), "feather": (99, 0.9)}
    found = {method: {0.95: {0: point}} for method, point in points.items()}
    assert evidence.front(found, 0.95) == ["set", "agp", "feather"]
    assert evidence.front({"a": {0.95: {0: (98, 0.2)}}, "b": {0.95: {0: (97, 0.2)}}}, 0.95) == ["a"]


def test_accuracy_and_ratio_are_paired_by_seed(evidence):
    theirs = {0: (98.0, 1.0), 1: (97.0, 1.0), 2: (96.0, 1.0)}
    accuracy, times = evidence.compared(theirs, {seed: (a + 0.1, 0.25) for seed, (a, _) in theirs.items()})
    assert (accuracy.mean, times.mean, times.n) == (pytest.approx(0.1), pytest.approx(4), 3)
    assert accuracy.margin == pytest.approx(0, abs=1e-9) and times.margin == pytest.approx(0, abs=1e-9)


def test_the_headline_is_the_cheapest_that_is_as_accurate(evidence, monkeypatch):
    found = {f"dense-seed{seed}": run(1.0) for seed in (0, 1)}
    for method, accuracy, share in [
        ("fine_tuned", 0.98, 0.05),
        ("set", 0.97, 0.05),
        ("agp_0_30", 0.981, 0.12),
        ("pll", 0.99, 0.3),
    ]:
        found |= {
            f"{method}-0.95-seed{seed}": run(share, accuracy, 4 if method == "fine_tuned" else 10) for seed in (0, 1)
        }
    monkeypatch.setattr(evidence, "records", lambda network: found)
    (row,) = evidence.headline("mnist_lenet300").splitlines()[2:]
    assert "| AGP, 0 to 30 % |" in row and f"| **{1.02 / 0.12:.1f}** ± 0.00 |" in row and "+0.10 ± 0.00 |" in row


def test_runs_begin_with_the_files_of_the_runs_before_them(evidence):
    names = ("fine_tuned-0.95-seed1", "rewound-0.8-seed2", "rewound-0.95-seed2")
    tuned, first, second = (evidence.config_of("mnist_lenet300", name) for name in names)
    assert (tuned.start.weights, tuned.epochs, tuned.prune.sparsity, tuned.seed) == (
        "dense-seed1/model.keras",
        4,
        0.95,
        1,
    )
    assert tuned.prune.schedule.options == {"start": 0.0} and tuned.optimizer.learning_rate.max == 0.1
    assert (first.start.mask, second.start.mask) == ("cut-0.8-seed2.keras", "cut-0.95-seed2.keras")
    assert (second.prune, second.epochs, second.seed) == (None, 10, 2)
    cifar = evidence.config_of("cifar10_resnet20", "fine_tuned-0.95-seed1")
    assert (cifar.model.name, cifar.start.weights, cifar.epochs) == ("resnet_20", "dense-seed1/model.keras", 4)


def test_all_runs_of_a_seed_come_before_those_of_the_next(evidence):
    names = evidence.names("mnist_lenet300")
    assert set(names) >= {"dense-seed0", "three_stages-0.9-seed2", "fine_tuned_low-0.98-seed0", "rewound-0.98-seed1"}
    assert [name for name in names if name.endswith("0.95-seed9")] == [
        "pll-0.95-seed9",
        "agp_0_30-0.95-seed9",
        "agp_10_40-0.95-seed9",
    ]
    assert [name[-1] for name in names] == sorted(name[-1] for name in names)
    assert set(evidence.names("cifar10_resnet20")) >= {"pll-0.98-seed0", "agp_10_40-0.9-seed2", "fine_tuned-0.95-seed0"}
    assert not any(name.startswith("rewound") for name in evidence.names("cifar10_resnet20"))


def test_pll_is_compared_with_a_window_of_its_own_cost(evidence, monkeypatch):
    """AGP has 97 % at 0.1 and 98 % at 0.3, so 97.5 % at 0.2. What is cheaper than the cheapest meets the cheapest."""
    windows = {"agp_0_30": (97.0, 0.1), "agp_10_40": (98.0, 0.3)}
    ours = {0.95: (97.8, 0.2), 0.98: (97.8, 0.05)}
    found = {method: {s: {0: point} for s in ours} for method, point in windows.items()}
    monkeypatch.setattr(evidence, "results", lambda network: found | {"pll": {s: {0: p} for s, p in ours.items()}})
    first, second = evidence.against_windows("mnist_lenet300").splitlines()[2:]
    assert "| 97.80 (0.200, n = 1) | 97.50 (0.200, n = 1) | +0.30 (n = 1) |" in first
    assert "| 97.00 (0.050, n = 1) | +0.80 (n = 1) |" in second


def test_measuring_elsewhere_is_bounded_by_five_products_per_check(evidence):
    """4 epochs of 390 steps have 39 checks, one in 40 steps; the target is reached in the second epoch."""
    seen = [(0.3, 1.0, 0.7), (0.9, 0.4, 0.1), (0.9, 0.1, 0.1), (0.9, 0.1, 0.1)]
    epochs = [{"sparsity": s, "mean_macs_share": share, "macs_share": end} for s, share, end in seen]
    found = run(0.4, data="cifar10_jpeg", asked=0.9) | {"epochs": epochs}
    assert evidence.flops("pll", found) == pytest.approx(4 / 10 * (0.4 + 1.4 / 40 * (10 + 1 / 3) / 4))


def test_a_later_round_is_trained_from_the_cut_of_the_round_before(evidence, tmp_path, monkeypatch):
    """The networks that come out of the rounds, told apart by their zeros."""
    monkeypatch.chdir(tmp_path)
    trained, cuts = [], []
    monkeypatch.setattr(evidence.matrix, "train", lambda runs, folder, on_run_begin: trained.extend(runs))
    monkeypatch.setattr(evidence.run_directory, "read_model", lambda path, compiled: _Model(str(path), cuts))
    monkeypatch.setattr(evidence.tfsparse, "prune", lambda model, sparsity, pruner: cuts.append((model.path, sparsity)))
    evidence.train("mnist_lenet300", "rewound-0.95-seed0")
    assert trained == ["dense-seed0", "rewound-0.8-seed0", "rewound-0.95-seed0"]
    assert cuts == [
        ("dense-seed0/model.keras", 0.8),
        "cut-0.8-seed0.keras",
        ("rewound-0.8-seed0/model.keras", 0.95),
        "cut-0.95-seed0.keras",
    ]


class _Model:
    def __init__(self, path, written):
        self.path, self.save = path, written.append


def test_what_is_among_the_results_is_not_trained_again(evidence, monkeypatch, tmp_path):
    """Neither the runs of this page nor those of the comparison."""

    def train(network, name):
        trained.append(name)
        pathlib.Path(name).mkdir()
        pathlib.Path(name, "run.json").write_text("{}")

    trained = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(evidence, "train", train)
    monkeypatch.setattr(evidence, "names", lambda network: ["pll-0.95-seed0", "pll-0.95-seed1", "pll-0.95-seed2"])
    monkeypatch.setattr(evidence.comparison, "finished", lambda file: {"pll-0.95-seed0": run(0.2)})
    (tmp_path / "results" / "cifar10_resnet20").mkdir(parents=True)
    (tmp_path / "results" / "cifar10_resnet20" / "pll-0.95-seed1.json").write_text("{}")
    evidence.run_all("cifar10_resnet20")
    assert trained == ["pll-0.95-seed2"]
    assert (tmp_path / "results" / "cifar10_resnet20" / "pll-0.95-seed2.json").exists()
