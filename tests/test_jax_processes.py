"""Two JAX processes with one device each under `keras.distribution.DataParallel`.

Their masks are equal at every step, and equal those of one device that gets the same global batches. Masks that were
made to differ are found. The training is in jax_worker.py.
"""

import importlib.util
import json
import os
import pathlib
import re

import numpy as np
import processes
import pytest

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="pip install 'tfsparse[jax]' to test on JAX"),
]
SCRIPT = pathlib.Path(__file__).parent / "jax_worker.py"
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
    "CUDA_VISIBLE_DEVICES": "-1",
}
STEPS, DUE, EPOCHS, FAULT = 12, 5, 3, 6
CAUGHT = re.compile(r"The masks of \S*hidden/kernel on replica 1 of 2 differ from those on replica 0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, request):
    """Run two processes and a single one, and return the folder with their results."""
    path = tmp_path_factory.mktemp("jax")
    environment = os.environ | processes.jax(request.config.cache.mkdir("jax")) | ENVIRONMENT

    def start(task, ports=(0,)):
        return processes.start(path, task, [SCRIPT, path, str(task), str(ports[0])], environment)

    assert processes.run_pair(path, start) == [0, 0], processes.logs(path)
    assert processes.wait([start("alone")]) == [0], processes.logs(path)
    return path


def results(folder, name, task):
    """Read what a process wrote about one training."""
    return json.loads((folder / f"{name}-{task}.json").read_text())


def variables(folder, name, task):
    """Read the weights, masks and slots at the end."""
    with np.load(folder / f"{name}-{task}.npz") as file:
        return [file[name] for name in file.files]


def assert_equal_variables(folder, name):
    for first, second in zip(variables(folder, name, 0), variables(folder, name, 1), strict=True):
        np.testing.assert_array_equal(first, second)


def test_masks_equal_those_of_one_device_at_every_step(folder):
    first, second, alone = (results(folder, "straight", task)["steps"] for task in (0, 1, "alone"))
    assert first == second == alone
    assert len(first) == STEPS and len(set(first)) >= 4
    assert_equal_variables(folder, "straight")
    for two, one in zip(variables(folder, "straight", 0), variables(folder, "straight", "alone"), strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)


def test_digests_are_sent_before_each_update_and_at_the_end_of_each_epoch(folder):
    result = results(folder, "straight", 0)
    assert (result["error"], result["warnings"]) == (None, [])
    assert (result["num_syncs"], result["bytes"]) == (DUE + EPOCHS, (DUE + EPOCHS) * 3 * 4)
    assert results(folder, "straight", "alone")["num_syncs"] == 0


@pytest.mark.parametrize("task", range(2))
def test_a_flipped_entry_stops_both_processes_before_the_next_update(folder, task):
    result = results(folder, "flipped", task)
    assert CAUGHT.match(result["error"])
    assert len(result["steps"]) == FAULT


@pytest.mark.parametrize("task", range(2))
def test_a_flipped_entry_is_repaired_in_both_processes(folder, task):
    result = results(folder, "repaired", task)
    assert result["error"] is None and len(result["steps"]) == STEPS
    (warning,) = result["warnings"]
    assert CAUGHT.match(warning)
    steps = [results(folder, "repaired", task)["steps"] for task in range(2)]
    assert [step for step, (a, b) in enumerate(zip(*steps, strict=True), start=1) if a != b] == [FAULT]
    assert_equal_variables(folder, "repaired")


@pytest.mark.parametrize("task", range(2))
def test_push_and_pull_between_processes(folder, task):
    store = results(folder, "store", task)
    assert store["leader"] == [1, 0, 0]
    assert store["intersection"] == [0, 0, 0]
    assert store["union"] == store["vote"] == [1, 1, 0]
    assert store["error"].startswith(f"A replica pushed 3 entries for step {3 - task} ")
    assert store["bytes"] == 1 + 24
