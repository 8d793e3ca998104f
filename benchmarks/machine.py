"""What the benchmarks of this folder share: where and with what a figure was measured, and the figures on disk."""

import contextlib
import ctypes
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable


def describe() -> dict:
    """The processor, its cores and how busy they are now: a time means little without them."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(*packages: str) -> dict[str, str]:
    """Python and the installed version of each package."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def resident_bytes() -> int:
    """Memory of this process now. Linux only, like the two functions below."""
    return _memory("VmRSS")


def peak_bytes() -> int:
    """The most memory that this process had since it began, or since `forget_peak`."""
    return _memory("VmHWM")


def forget_peak() -> None:
    """Let the peak start from the memory that this process needs now; what it has freed goes back to the system."""
    with contextlib.suppress(AttributeError):  # only glibc keeps it
        ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def write(path: str | os.PathLike, content: dict) -> None:
    """Write JSON in one go: the file is whole or not there."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".new-{path.name}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def in_process(script: str, arguments: list[str], limit: int) -> dict:
    """The JSON that a script writes to `--out` in a process of its own; or why there is none after `limit` seconds."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "result.json"
        command = [sys.executable, script, *arguments, "--out", str(path)]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            subprocess.run(command, check=False, capture_output=True, env=environment, timeout=limit)
        except subprocess.TimeoutExpired:
            return {"error": f"stopped after {limit} seconds"}
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"error": "the process died"}


def result_or_error(function: Callable[..., dict], *arguments) -> dict:
    """What a function returns; the first line of what it died of is a result too."""
    try:
        return function(*arguments)
    except Exception as error:  # whatever it may be: that is the question
        lines = str(error).strip().splitlines() or [""]
        return {"error": f"{type(error).__name__}: {lines[0]}"}


def _memory(name: str) -> int:
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", status)[1])


def _cpu_model() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
