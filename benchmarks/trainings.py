"""Trainings through the command line; for the benchmarks of this folder."""

import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def train(config: str, result: pathlib.Path, folder: pathlib.Path, out: str, *overrides: str) -> None:
    """Train `configs/<config>.yaml` into `folder/out` and copy its run.json to `result`.

    A finished run is not repeated, and an interrupted one is resumed. Paths in overrides are relative to `folder`, so
    that run.json has no path of this machine.
    """
    if result.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    sets = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-c", "from tfsparse_command import main; main()", "train"]
    command += [str((ROOT / "configs" / f"{config}.yaml").resolve()), *sets, "--out", out]
    resume = ["--resume"] if (folder / out / "run.json").exists() else []
    subprocess.run([*command, *resume], check=True, cwd=folder)
    result.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / out / "run.json", result)
