"""Every notebook runs from top to bottom, shortened by one environment variable, and shows what its text says."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

NOTEBOOKS = pathlib.Path(__file__).parents[1] / "notebooks"
SHOWS = {
    "activation_density.ipynb": [
        "stem: 32 channels\n    made by stem, first_outer, second_outer",
        "densities: those of 1400 examples, inference mode",
        "parameters 56842 -> ",
        "shrunken: accuracy",
    ],
    "dst.ipynb": [
        "after it:       0.9500 zeros",
        "the plain model gives the same answers: True",
        "RigL      0.9500 zeros",
        "Feather   0.9500 zeros",
    ],
    "quick_start.ipynb": [
        "the packed SavedModel gives the same bits as the plain one: True",
        "the file is smaller: True",
    ],
    "roulette_pll.ipynb": [
        "nothing was pruned before the start: True",
        "PLL ended by itself or at half of training: True",
        "asked 0.9000, got 0.9000 zeros",
    ],
    "gsm.ipynb": ["accuracy before the cut", "95.00% of the pruned weights are zero", "ticket with GSM's mask"],
    "tfmot_one_cycle.ipynb": [
        "asked 0.9000, got 0.9000 zeros",
        "zeros in the checkpoint that training left: 0.9000",
        "90.00% of the pruned weights are zero",
    ]
}


def _text(path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", "")) for output in outputs)


def test_every_notebook_is_tested():
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} == set(SHOWS)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", SHOWS)
def test_runs_and_shows(name, tmp_path):
    copy = pathlib.Path(shutil.copy(NOTEBOOKS / name, tmp_path))
    environment = os.environ | {"TFSPARSE_NOTEBOOK_EPOCHS": "3", "MPLBACKEND": "Agg"}
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", copy.name]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    for expected in SHOWS[name]:
        assert expected in _text(copy)
        assert expected in _text(NOTEBOOKS / name)  # and what the committed one shows is that of a full run
