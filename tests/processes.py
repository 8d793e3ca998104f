"""Processes of one test, several on the loopback interface: started, watched, and killed when one has failed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

LIMIT, GRACE = 240, 3  # seconds: for all, also on a busy machine; for the others to notice that one has failed
TAKEN = ("Address already in use", "ould not start gRPC server")


def jax(compiled):
    """Environment for JAX. To compile takes longer here than what is compiled, so it is kept in a folder."""
    kept = {"JAX_COMPILATION_CACHE_DIR": str(compiled), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    kept |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    return {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} | kept


def start(folder, task, arguments, environment):
    """One process, in a group of its own that can be killed; it writes to `log-TASK`."""
    with (folder / f"log-{task}").open("w") as log:
        command = [sys.executable, *arguments]
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


def run_pair(folder, start_one):
    """The exit codes of `start_one(task, ports)` for tasks 0 and 1; once more if their ports were taken meanwhile."""
    for _ in range(2):
        ports = free_ports(2)
        codes = wait([start_one(task, ports) for task in range(2)])
        if not any(message in logs(folder) for message in TAKEN):
            break
    return codes


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
