"""Two processes under MultiWorkerMirroredStrategy: their masks are equal after every step, equal to those of one
device, and equal after a crash. What is trained, and how it crashes, is in worker.py."""

import contextlib
import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_model_optimization") is None, reason="pip install 'tfsparse[tfmot]' to test it"
)
SCRIPT = pathlib.Path(__file__).parent / "worker.py"
LIMIT, GRACE = 100, 3  # seconds: for a cluster; for the others to notice that one has failed
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "no_grpc_proxy": "127.0.0.1",
}
SCOPES = ["layer", "global"]
EPOCHS, STEPS, PRUNED = 3, 8, 272  # 0.8 of 340 weights


def start(folder, cases, task=None, ports=()):
    """One process, in a group of its own that can be killed; with a task it is a worker of a cluster."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"} | ENVIRONMENT
    if task is not None:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": task}})
    command = [sys.executable, SCRIPT, folder, *cases]
    with (folder / f"log-{task or 0}").open("w") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def wait(processes):
    """Exit codes. When one has failed the others get a little time, and are killed, as a cluster manager would do."""
    end = time.monotonic() + LIMIT
    try:
        while any(p.poll() is None for p in processes) and time.monotonic() < end:
            if any(p.poll() for p in processes):
                end = min(end, time.monotonic() + GRACE)
            time.sleep(0.05)
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return [process.wait() for process in processes]


def free_ports(count):
    """Ports that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def logs(folder):
    """The ends of them, for the message of a failed test."""
    return "\n".join(f"{path.name}: {path.read_text()[-3000:]}" for path in sorted(folder.glob("log-*")))


def run_pair(folder, cases):
    """The exit codes of two workers; once more if another process took their ports meanwhile."""
    for _ in range(2):
        ports = free_ports(2)
        codes = wait([start(folder, cases, task, ports) for task in range(2)])
        if not any(message in logs(folder) for message in ("Address already in use", "ould not start gRPC server")):
            break
    return codes


def seen(folder, worker=0):
    """What a worker wrote after each step."""
    return json.loads((folder / f"{worker}.json").read_text())


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
    assert wait([start(folder, SCOPES)]) == [0], logs(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two workers: trainings without a crash, one of them with a planted fault, and two with a crash each, after which
    the same command line is started again."""
    folder = tmp_path_factory.mktemp("pair")
    cases = [*SCOPES, "flipped", "resumed-layer", "resumed-global"]
    for case, crashes in ("resumed-layer", 1), ("resumed-global", 0):
        codes = run_pair(folder, cases)
        assert codes[crashes] == 1 and 0 not in codes, logs(folder)
        assert (folder / case / "crashed").exists() and not list((folder / case).glob("*.json")), logs(folder)
    assert run_pair(folder, cases) == [0, 0], logs(folder)
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
