"""What the benchmarks of this folder share: where and with what a figure was measured, and the figures on disk."""

import importlib.metadata
import json
import os
import pathlib
import platform


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


def write(path: str | os.PathLike, content: dict) -> None:
    """Write JSON in one go: the file is whole or not there."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".new-{path.name}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def _cpu_model() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
