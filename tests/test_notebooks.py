"""Every notebook runs from top to bottom, with fewer epochs, and shows what its text says."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
DATA = pathlib.Path(os.environ.get("TFDS_DATA_DIR", ROOT.parent / "shared" / "tensorflow_datasets"))
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
    "fine_tuning.ipynb": [
        "cifar10_jpeg: 50000 training images",
        "asked 0.8000, got 0.8000 zeros",
        "| pruned, shrunken | int8 |",
    ],
    "gpu.ipynb": [
        "2 devices: /device:CPU:0, /device:CPU:1",
        "optimizers, from the outside in: LossScaleOptimizer SparseOptimizer",
        "2 replicas: asked 0.9000, got 0.9000 zeros",
        "masks equal on all devices: True",
        "hidden/kernel on replica 1 of 2 differ",
    ],
    "how_sparse.ipynb": [
        "every level was trained, by one training",
        "what is zero at 80 % is zero at 95 %: True",
        "no level was trained: these are cuts of one network",
        "the SavedModel gives the answers of the small network: True",
    ],
    "quick_start.ipynb": [
        "the packed SavedModel gives the same bits as the plain one: True",
        " times smaller",
    ],
    "roulette_pll.ipynb": [
        "it pruned from step ",
        "asked 0.9000, got 0.9000 zeros",
    ],
    "gsm.ipynb": [
        "accuracy before the cut",
        "95.00% of the pruned weights are zero",
        "ticket with GSM's mask",
        " bytes; the weights as float32 take 202,440",
    ],
    "tfmot_one_cycle.ipynb": [
        "asked 0.9000, got 0.9000 zeros",
        "zeros in the checkpoint that training left: 0.9000",
        "90.00% of the pruned weights are zero",
        "sparse: 16",
    ],
}
# What is replaced, so that a notebook runs in a minute.
SHORTER = {
    "activation_density.ipynb": {"min_epochs=10": "min_epochs=1, window=1"},
    "fine_tuning.ipynb": {
        "epochs=EPOCHS // 4": "epochs=1",
        "PER_CLASS = 2000": "PER_CLASS = 128",
        "range(5), x, y, 5000)": "range(5), x, y, 128)",
    },
    "roulette_pll.ipynb": {"every=20": "every=5"},
}
DRAWS = re.compile(r"\.plot\(|\bplt\.(?:figure|hist|plot|show|subplots)\b")


def _cells(path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def _text(path) -> str:
    outputs = [output for cell in _cells(path) for output in cell.get("outputs", [])]
    tables = [output.get("data", {}).get("text/markdown", []) for output in outputs]
    return "".join("".join(text) for text in (*(output.get("text", []) for output in outputs), *tables))


def test_every_notebook_is_tested():
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} == set(SHOWS)


@pytest.mark.parametrize("name", SHOWS)
def test_every_cell_that_draws_has_its_picture(name):
    """Also on GitHub, where nothing is run."""
    cells = [cell for cell in _cells(NOTEBOOKS / name) if cell["cell_type"] == "code"]
    drawing = [cell for cell in cells if DRAWS.search("".join(cell["source"]))]
    assert drawing
    for cell in drawing:
        assert any("image/png" in output.get("data", {}) for output in cell["outputs"]), "".join(cell["source"])


@pytest.mark.parametrize("name", SHOWS)
def test_every_cell_was_run_in_order_and_without_messages(name):
    cells = [cell for cell in _cells(NOTEBOOKS / name) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert not [output for cell in cells for output in cell["outputs"] if output.get("name") == "stderr"]


def _shorten(path, replacements):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        source = re.sub(r"(?m)^EPOCHS = .*$", "EPOCHS = 3", "".join(cell["source"]))
        for old in [old for old in replacements if old in source]:
            source = source.replace(old, replacements[old])
        cell["source"] = source
    path.write_text(json.dumps(notebook), encoding="utf-8")


@pytest.mark.parametrize("name", SHORTER)
def test_what_is_replaced_is_there(name):
    source = "".join(line for cell in _cells(NOTEBOOKS / name) for line in cell["source"])
    assert all(old in source for old in SHORTER[name])


def test_the_page_on_fine_tuning_shows_the_code_and_the_figures_of_its_notebook():
    page = (ROOT / "docs" / "fine_tuning.md").read_text(encoding="utf-8")
    notebook = NOTEBOOKS / "fine_tuning.ipynb"
    sources = "\n".join("".join(cell["source"]) for cell in _cells(notebook))
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert code and all(block.replace('"imagenet"', "WEIGHTS") in sources + "\n" for block in code)

    shown, text = _text(notebook), re.sub(r"```.*?```|`[^`]*`", "", page, flags=re.DOTALL)
    rows = re.findall(r"(?m)^\|.*\|$", text)
    assert len(rows) > 2 and all(row in shown.splitlines() for row in rows)
    figures = re.findall(r"\d+(?:[.,]\d+)+", text)
    assert [figure for figure in figures if not re.search(rf"(?<![\d.,]){re.escape(figure)}(?!\d|,\d)", shown)] == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", SHOWS)
def test_runs_and_shows(name, tmp_path):
    if name == "fine_tuning.ipynb" and not (DATA / "cifar10_jpeg").is_dir():
        pytest.skip(f"CIFAR-10 IS NOT PREPARED in {DATA}: set TFDS_DATA_DIR to a folder that holds cifar10_jpeg/")
    copy = pathlib.Path(shutil.copy(NOTEBOOKS / name, tmp_path))
    data = {"TFDS_DATA_DIR": str(DATA), "TFSPARSE_NOTEBOOK_DATA": "cifar10_jpeg"}  # of fine_tuning.ipynb
    environment = os.environ | {"MPLBACKEND": "Agg"} | data
    _shorten(copy, SHORTER.get(name, {}))
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", copy.name]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stderr[-3000:]
    for expected in SHOWS[name]:
        assert expected in _text(copy)
        assert expected in _text(NOTEBOOKS / name)  # and what the committed one shows is that of a full run
