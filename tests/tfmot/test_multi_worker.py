"""Two processes under MultiWorkerMirroredStrategy: their masks are equal after every step, equal to those of one
device, and equal after a crash. What is trained, and how it crashes, is in worker.py."""

import importlib.util
import json
import os
import pathlib

import numpy as np
import processes
import pytest

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow_model_optimization") is None,
        reason="pip install 'tfsparse[tfmot]' to test it",
    ),
]
SCRIPT = pathlib.Path(__file__).parent / "worker.py"
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "no_grpc_proxy": "127.0.0.1",
}
SCOPES = ["layer", "global"]
EPOCHS, STEPS, PRUNED = 3, 8, 272  # 0.8 of 340 weights
FAULT = 10  # the step after which a fault is planted


def start(folder, cases, task=0, ports=None):
    """One process; with ports it is a worker of a cluster."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"} | ENVIRONMENT
    if ports is not None:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": task}})
    return processes.start(folder, task, [SCRIPT, folder, *cases], environment)


def run_pair(folder, cases):
    """The exit codes of two workers."""
    return processes.run_pair(folder, lambda task, ports: start(folder, cases, task, ports))


def seen(folder, worker=0):
    """What a worker wrote after each step."""
    return json.loads((folder / f"{worker}.json").read_text())


def end(folder, worker=0):
    """How a training ended: error, warnings, and what was sent to compare masks."""
    return json.loads((folder / f"{worker}-end.json").read_text())


def weights(folder, worker=0):
    """The variables at the end: weights, masks, thresholds and steps."""
    with np.load(folder / f"{worker}.npz") as file:
        return [file[name] for name in file.files]


def masks(steps):
    """What is known of the masks after each step."""
    return [(step["step"], step["zeros"], step["masks"]) for step in steps]


def assert_workers_agree(folder):
    """Masks after every step, and all variables bit for bit."""
    assert masks(seen(folder, 0)) == masks(seen(folder, 1)), "masks differ"
    assert seen(folder, 0) == seen(folder, 1)
    for first, second in zip(weights(folder, 0), weights(folder, 1), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process on the same global batches."""
    folder = tmp_path_factory.mktemp("alone")
    assert processes.wait([start(folder, SCOPES)]) == [0], processes.logs(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two workers: trainings without a crash, two of them with a planted fault, and two with a crash each, after which
    the same command line is started again."""
    folder = tmp_path_factory.mktemp("pair")
    cases = [*SCOPES, "flipped", "repaired", "resumed-layer", "resumed-global"]
    for case, crashes in ("resumed-layer", 1), ("resumed-global", 0):
        codes = run_pair(folder, cases)
        assert codes[crashes] == 1 and 0 not in codes, processes.logs(folder)
        assert (folder / case / "crashed").exists() and not list((folder / case).glob("*.json")), processes.logs(folder)
    assert run_pair(folder, cases) == [0, 0], processes.logs(folder)
    return folder


@pytest.mark.parametrize("scope", SCOPES)
def test_workers_agree_after_every_step(pair, scope):
    assert_workers_agree(pair / scope)
    steps = seen(pair / scope)
    assert [step["step"] for step in steps] == list(range(1, EPOCHS * STEPS + 1))
    assert len({step["masks"] for step in steps}) > 10  # the masks did change
    assert steps[-1]["zeros"] == PRUNED


@pytest.mark.parametrize("scope", SCOPES)
def test_two_workers_as_one_device(pair, alone, scope):
    assert masks(seen(pair / scope)) == masks(seen(alone / scope))
    for ours, theirs in zip(weights(pair / scope), weights(alone / scope), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("scope", SCOPES)
def test_resumed_after_a_crash_as_if_nothing_had_happened(pair, scope):
    folder = pair / f"resumed-{scope}"
    assert_workers_agree(folder)
    assert seen(folder)[0]["epoch"] == 1  # and not 0: it did resume
    assert seen(folder) == seen(pair / scope)[STEPS:]
    for ours, theirs in zip(weights(folder), weights(pair / scope), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_comparison_finds_one_flipped_entry(pair):
    with pytest.raises(AssertionError, match="masks differ"):
        assert_workers_agree(pair / "flipped")


def test_digests_are_sent_before_every_update_and_at_the_end_of_every_epoch(pair, alone):
    looks = EPOCHS * STEPS + EPOCHS  # every step updates
    assert end(pair / "layer") == {"error": None, "warnings": [], "num_syncs": looks, "bytes": looks * 2 * 4}
    assert end(alone / "layer") == {"error": None, "warnings": [], "num_syncs": 0, "bytes": 0}


@pytest.mark.parametrize("worker", range(2))
def test_a_flipped_entry_stops_both_workers_before_the_next_update(pair, worker):
    error = end(pair / "flipped", worker)["error"]
    assert error.startswith("The masks of hidden/kernel:0 on replica 1 of 2 differ from those on replica 0")
    assert seen(pair / "flipped", worker)[-1]["step"] == FAULT


@pytest.mark.parametrize("worker", range(2))
def test_masks_from_other_weights_are_repaired_before_the_next_update(pair, worker):
    steps = [seen(pair / "repaired", worker) for worker in range(2)]
    differ = [a["step"] for a, b in zip(*steps, strict=True) if a != b]
    assert differ == [FAULT, FAULT + 1]  # of the weights at first, of the mask after the next update
    assert steps[0][FAULT]["masks"] != steps[1][FAULT]["masks"]
    (warning,) = end(pair / "repaired", worker)["warnings"]
    assert warning.startswith("The masks of hidden/kernel:0 on replica 1 of 2 differ")
    assert steps[worker][-1]["zeros"] == PRUNED


def test_after_a_repair_the_workers_agree_in_all_weights(pair):
    for first, second in zip(weights(pair / "repaired", 0), weights(pair / "repaired", 1), strict=True):
        np.testing.assert_array_equal(first, second)
