"""What does the doctor measure of the examples in its documentation?

Diagnoses the network of `docs/doctor.md`, pruned in blocks and weight by weight, and the one that `mine.py` of the
quick start trains, and writes what it found into `docs/doctor.md` and `docs/quick_start.md`. A minute on two idle CPU
cores:

    python benchmarks/doctor_page.py
    python benchmarks/doctor_page.py --tables            # only the pages, from benchmarks/results/doctor.json
"""

import argparse
import json
import os
import re
import tempfile

import machine
import tables

RESULTS = tables.ROOT / "benchmarks" / "results" / "doctor.json"
BLOCKS = {"blocks": (1, 4), "weights": "weight"}  # the network of docs/doctor.md by granularity


def code(page: str, marker: str) -> str:
    """The block of Python in a page that has a marker."""
    blocks = re.findall(r"```python\n(.*?)```", (tables.ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if marker in block)


def pruned(granularity):
    """The network of `docs/doctor.md`, pruned anew in a granularity."""
    import tfsparse

    names: dict = {}
    exec(code("docs/doctor.md", "set_random_seed").partition("tfsparse.prune(")[0], names)
    tfsparse.prune(names["model"], 0.9, tfsparse.Magnitude(granularity, scope="layer"))
    return names["model"]


def trained():
    """The network of `mine.py` of the quick start, trained by it."""
    names: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        exec(code("docs/quick_start.md", "mine.keras"), names)
        os.chdir(tables.ROOT)
    return names["model"]


def run() -> None:
    """Diagnose all three and keep what was found."""
    import tfsparse

    models = {name: pruned(granularity) for name, granularity in BLOCKS.items()} | {"mine": trained()}
    found = {name: tfsparse.doctor(model) for name, model in models.items()}
    diagnoses = {name: {"findings": d.findings, "measured": str(d.measurement)} for name, d in found.items()}
    machine.write(RESULTS, {"machine": machine.describe() | machine.versions("tensorflow", "keras")} | diagnoses)


def write_pages() -> None:
    """Put what was measured between its markers."""
    results = json.loads(RESULTS.read_text())
    text = lambda name: f"```text\n{results[name]['measured']}\n```"  # noqa: E731
    tables.write("docs/doctor.md", "measured-blocks", text("blocks"))
    tables.write("docs/doctor.md", "measured-weights", text("weights"))
    tables.write("docs/quick_start.md", "measured-mine", "\n".join([text("mine"), "", *_listed(results["mine"])]))


def _listed(diagnosis):
    return [f"- {finding}" for finding in diagnosis["findings"]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="only write the pages")
    if not parser.parse_args().tables:
        run()
    write_pages()
