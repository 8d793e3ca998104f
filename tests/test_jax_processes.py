"""Two JAX processes with a device each under `keras.distribution.DataParallel`: their masks are equal at every step and
those of one device given the same global batches; faults are found. What is trained is in jax_worker.py."""

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
    """Where two processes and one alone have left what they saw."""
    path = tmp_path_factory.mktemp("jax")
    environment = os.environ | processes.jax(request.config.cache.mkdir("jax")) | ENVIRONMENT

    def start(task, ports=(0,)):
        return processes.start(path, task, [SCRIPT, path, str(task), str(ports[0])], environment)

    assert processes.run_pair(path, start) == [0, 0], processes.logs(path)
    assert processes.wait([start("alone")]) == [0], processes.logs(path)
    return path


def seen(folder, name, task):
    """What a process wrote about one training."""
    return json.loads((folder / f"{name}-{task}.json").read_text())


def variables(folder, name, task):
    """Weights, masks and slots at the end."""
    with np.load(folder / f"{name}-{task}.npz") as file:
        return [file[name] for name in file.files]


def assert_equal_variables(folder, name):
    for first, second in zip(variables(folder, name, 0), variables(folder, name, 1), strict=True):
        np.testing.assert_array_equal(first, second)


def test_masks_are_equal_at_every_step_and_those_of_one_device(folder):
    first, second, alone = (seen(folder, "straight", task)["steps"] for task in (0, 1, "alone"))
    assert first == second == alone
    assert len(first) == STEPS and len(set(first)) >= 4
    assert_equal_variables(folder, "straight")
    for ours, theirs in zip(variables(folder, "straight", 0), variables(folder, "straight", "alone"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_digests_are_sent_before_every_update_and_at_the_end_of_every_epoch(folder):
    end = seen(folder, "straight", 0)
    assert (end["error"], end["warnings"]) == (None, [])
    assert (end["num_syncs"], end["bytes"]) == (DUE + EPOCHS, (DUE + EPOCHS) * 3 * 4)
    assert seen(folder, "straight", "alone")["num_syncs"] == 0


@pytest.mark.parametrize("task", range(2))
def test_a_flipped_entry_stops_both_processes_before_the_next_update(folder, task):
    end = seen(folder, "flipped", task)
    assert CAUGHT.match(end["error"])
    assert len(end["steps"]) == FAULT


@pytest.mark.parametrize("task", range(2))
def test_a_flipped_entry_is_repaired_in_both_processes(folder, task):
    end = seen(folder, "repaired", task)
    assert end["error"] is None and len(end["steps"]) == STEPS
    (warning,) = end["warnings"]
    assert CAUGHT.match(warning)
    steps = [seen(folder, "repaired", task)["steps"] for task in range(2)]
    assert [step for step, (a, b) in enumerate(zip(*steps, strict=True), start=1) if a != b] == [FAULT]
    assert_equal_variables(folder, "repaired")


@pytest.mark.parametrize("task", range(2))
def test_push_and_pull_between_processes(folder, task):
    store = seen(folder, "store", task)
    assert store["leader"] == [1, 0, 0]
    assert store["intersection"] == [0, 0, 0]
    assert store["union"] == store["vote"] == [1, 1, 0]
    assert store["error"].startswith(f"A replica pushed 3 entries for step {3 - task} ")
    assert store["bytes"] == 1 + 24
