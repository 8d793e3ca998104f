"""How long does each result take? Writes the table of `benchmarks/README.md` from the results on disk.

python benchmarks/durations.py
"""

import json
import pathlib
from collections.abc import Iterator

import tables

RESULTS = tables.ROOT / "benchmarks" / "results"
COMMANDS = {  # of a file or folder of results: the script, and the page that shows it
    "comparison": ("comparison.py", "docs/comparison.md"),
    "evidence": ("evidence.py", "docs/evidence.md"),
    "addons": ("addons.py", "docs/methods.md"),
    "nested": ("nested.py", "docs/how_sparse.md"),
    "auto": ("auto.py", "docs/how_sparse.md"),
    "mnist": ("mnist.py", "docs/mnist.md"),
    "mnist_dst": ("mnist_dst.py", "docs/dst.md"),
    "cifar": ("cifar.py", "docs/dst.md"),
    "mnist_gsm": ("mnist_gsm.py", "docs/gsm.md"),
    "free_tickets": ("free_tickets.py", "docs/free_tickets.md"),
    "activation_density": ("activation_density.py", "docs/activation_density.md"),
    "tost": ("tost.py", "docs/methods.md"),
    "channel_training": ("channel_training.py", "docs/channel_training.md"),
    "pll.json": ("pll.py", "docs/pll.md"),
    "recalibration": ("recalibration.py", "docs/sensitivity.md"),
    "sensitivity": ("sensitivity.py", "docs/sensitivity.md"),
    "first_screen": ("first_screen.py", "README.md"),
    "startup.json": ("startup.py", "docs/command_line.md"),
    "doctor.json": ("doctor_page.py", "docs/doctor.md"),
    "tflite.json": ("tflite.py", "docs/tflite.md"),
    "saved_model.json": ("saved_model.py", "docs/export.md"),
    "channels.json": ("channels.py", "docs/shrinking.md"),
    "slim_latency.json": ("slim_latency.py", "docs/shrinking.md"),
    "applications.json": ("applications.py", "docs/compatibility.md"),
    "step_overhead.json": ("step_overhead.py", "docs/speed.md"),
    "threshold.json": ("threshold.py", "docs/speed.md"),
    "tfmot_side_by_side.json": ("tfmot_side_by_side.py", "docs/speed.md"),
    "mask_sync.json": ("mask_sync.py", "docs/speed.md"),
    "scale.json": ("scale.py", "docs/speed.md"),
}
OTHER_PAGES = {"comparison/digits_channels": "docs/methods.md"}  # than the rest of the folder


def seconds(folder: pathlib.Path) -> list[float]:
    """Seconds of training of every run file that holds them."""
    summaries = [json.loads(path.read_text()).get("summary", {}) for path in sorted(folder.rglob("*.json"))]
    return [summary["seconds"] for summary in summaries if "seconds" in summary]


def rows() -> Iterator[list[str]]:
    """One for each result that is there. Folders of comparisons have one for each file of configs."""
    for name, (script, page) in COMMANDS.items():
        folder = RESULTS / name
        parts = sorted(path for path in folder.glob("*") if path.is_dir()) or [folder]
        for part in parts if folder.exists() else []:
            label = part.relative_to(RESULTS).as_posix()
            shown = OTHER_PAGES.get(label, page)
            yield [f"`{label}`", f"`{script}`", f"[{shown}](../{shown})", *_times(seconds(part)), "not measured"]


def _times(found):
    if not found:
        return ["", "not recorded", "not recorded"]
    return [str(len(found)), f"{sum(found) / len(found):.0f} s", f"{sum(found) / 60:.0f} min"]


if __name__ == "__main__":
    titles = ["result", "script", "page", "trainings", "one training, mean", "all of them", "on one GPU"]
    tables.write("benchmarks/README.md", "durations", tables.markdown(titles, list(rows())))
