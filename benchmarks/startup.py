"""How long until something happens: help, the import, the first epoch of the README's command.

Starts each program several times, in turns, and writes median, least and most seconds into `docs/command_line.md`.
The first epoch counts from the start of the process to the line that `tfsparse train` prints of it; then the process
ends. Two minutes on an idle machine:

    python benchmarks/startup.py
    python benchmarks/startup.py --tables                # only the page, from benchmarks/results/startup.json
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import machine
import tables

RESULTS = tables.ROOT / "benchmarks" / "results" / "startup.json"
TFSPARSE = str(pathlib.Path(sys.executable).with_name("tfsparse"))
PROGRAMS = {  # its words, and the line at which the clock stops; without one, at its end
    "tfsparse --help": ([TFSPARSE, "--help"], None),
    "import keras": ([sys.executable, "-c", "import keras"], None),
    "import tfsparse": ([sys.executable, "-c", "import tfsparse"], None),
    "tfsparse train, until the first epoch is over": ([TFSPARSE, "train", "--out", "run"], "epoch 1/"),
}


def seconds(words: list[str], stops_at: str | None) -> float:
    """Start a program in an empty folder and return the seconds until it ends, or prints a line that begins so."""
    begun = time.perf_counter()
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        with subprocess.Popen(words, cwd=folder, env=environment, **pipes) as process:
            reached = any(stops_at and line.startswith(stops_at) for line in process.stdout)
            found = time.perf_counter() - begun
            process.kill()
    if stops_at and not reached:
        raise RuntimeError(f"{words} ended before a line that begins with {stops_at!r}.")
    return found


def measure(rounds: int) -> dict:
    """The seconds of every program in each round, after a round that reads the files from the disk."""
    times = [{name: seconds(*program) for name, program in PROGRAMS.items()} for _ in range(rounds + 1)]
    return {name: [each[name] for each in times[1:]] for name in PROGRAMS}


def text(found: dict) -> str:
    """The table of the page, and the load under which it was measured."""
    rows = [
        [f"`{name}`" if "," not in name else name, f"{statistics.median(s):.2f} ({min(s):.2f} to {max(s):.2f})"]
        for name, s in found["seconds"].items()
    ]
    load = found["machine"]["load_average"][0]
    quiet = "an idle machine" if load <= 1 else "other programs ran: idle, it takes less"
    table = tables.markdown(["", "seconds: median (least to most)"], rows)
    rounds = len(next(iter(found["seconds"].values())))
    return f"{table}\n\n{rounds} rounds on {found['machine']['cpu']}. Load average at the start: {load} ({quiet})."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is started (default 5)")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="file for the figures")
    parser.add_argument("--tables", action="store_true", help="only write the page")
    options = parser.parse_args()
    if not options.tables:
        described = machine.describe() | machine.versions("tensorflow", "keras")
        machine.write(options.out, {"machine": described, "seconds": measure(options.rounds)})
    if options.out == RESULTS:
        tables.write("docs/command_line.md", "startup", text(json.loads(RESULTS.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
