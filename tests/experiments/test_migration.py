"""Scripts for TFMOT: what is written in place of its names, and what is left to do by hand."""

import pathlib
import re

import pytest
from typer.testing import CliRunner

from tfsparse.experiments.migration import translate, translate_file
from tfsparse_command.app import app

SCRIPTS = sorted((pathlib.Path(__file__).parent / "migrate").glob("*.py"))
IMPORT = "import tensorflow_model_optimization as tfmot\n"
PAIRS = {
    "wrapper": (
        "m = tfmot.sparsity.keras.prune_low_magnitude(m)",
        'm = tfsparse.tfmot.prune_low_magnitude(m, scope="layer")',
    ),
    "wrapper with a trailing comma": (
        "m = tfmot.sparsity.keras.prune_low_magnitude(m, **options,)",
        'm = tfsparse.tfmot.prune_low_magnitude(m, **options, scope="layer",)',
    ),
    "wrapper in several lines": (
        "m = tfmot.sparsity.keras.prune_low_magnitude(\n    (m),  # mine\n    # both\n)",
        'm = tfsparse.tfmot.prune_low_magnitude(\n    (m),  # mine\n    # both\n    scope="layer",\n)',
    ),
    "function": ("clone(m, tfmot.sparsity.keras.prune_low_magnitude)", "clone(m, tfsparse.tfmot.prune_low_magnitude)"),
    "schedule by position": (
        "s = tfmot.sparsity.keras.PolynomialDecay(0.5, 0.8, 0, n, 2, 10)",
        "s = tfsparse.tfmot.Polynomial(initial_sparsity=0.5, sparsity=0.8, begin_step=0, end_step=n, power=2)",
    ),
    "schedule by name": (
        "s = tfmot.sparsity.keras.PolynomialDecay(frequency=10, final_sparsity=0.8, initial_sparsity=0, begin_step=0,\n"
        "    # of all\n    end_step=n)",
        "s = tfsparse.tfmot.Polynomial(sparsity=0.8, initial_sparsity=0, begin_step=0,\n    # of all\n    end_step=n)",
    ),
    "comment of what is dropped": (
        "s = tfmot.sparsity.keras.PolynomialDecay(0.5, 0.8, 0, n,\n    frequency=10,  # often\n    power=2)",
        "s = tfsparse.tfmot.Polynomial(initial_sparsity=0.5, sparsity=0.8, begin_step=0, end_step=n,\n"
        "    # often\n    power=2)",
    ),
    "letters of several bytes": (
        'print("größer", tfmot.sparsity.keras.strip_pruning(m))',
        'print("größer", tfsparse.tfmot.strip_pruning(m))',
    ),
    "callback": ("c = [tfmot.sparsity.keras.UpdatePruningStep()]", "c = [tfsparse.tfmot.Prune()]"),
    "scope": ("with tfmot.sparsity.keras.prune_scope(): pass", "with tfsparse.tfmot.scope(): pass"),
}
REFUSED = {
    "from tensorflow_model_optimization.sparsity.keras import *": "what `*` imports is not visible here",
    "tfmot.clustering.keras.cluster_weights(m)": "cluster_weights: tfsparse has no weight clustering",
    "class Step(tfmot.sparsity.keras.UpdatePruningStep): pass": "a subclass of UpdatePruningStep",
    "tfmot.python.core.sparsity.keras.prune.strip_pruning(m)": "strip_pruning is of a private module",
    "tfmot.sparsity.keras.unstrip(m)": "tfsparse knows no unstrip",
    "q = tfmot.quantization.keras.quantize_model(m); tfmot.sparsity.keras.prune_low_magnitude(q)": "a quantised model",
    "w = tfmot.sparsity.keras.prune_low_magnitude(m); tfmot.quantization.keras.quantize_model(w)": (
        "a wrapped model cannot be quantised: quantise tfsparse.tfmot.strip_pruning(w)"
    ),
}


@pytest.mark.parametrize("before, after", PAIRS.values(), ids=PAIRS)
def test_only_what_must_change_is_changed(before, after):
    assert translate(f"{IMPORT}{before}\n").translated == f"import tfsparse.tfmot\n{after}\n"


@pytest.mark.parametrize("line, reason", REFUSED.items())
def test_what_cannot_be_translated_is_named_with_its_line_and_reason(line, reason):
    (refused,) = translate(f"{IMPORT}\n{line}\n").refused
    assert refused.line == 3 and refused.text.startswith(reason)


def test_a_schedule_whose_arguments_are_not_visible_stays_with_all_its_uses():
    schedules = "s = sk.PolynomialDecay(**options)\nt = sk.PolynomialDecay(0, 0.5, 0, 9)\n"
    code = f"{IMPORT}sk = tfmot.sparsity.keras\n{schedules}"
    found = translate(code)
    assert found.translated == code and found.refused == [] and [line for line, _ in found.remarks] == [3]


@pytest.mark.parametrize(
    "imports, after",
    [
        ("from tensorflow_model_optimization.sparsity.keras import strip_pruning", "import tfsparse.tfmot"),
        (
            "from tensorflow_model_optimization.sparsity.keras import strip_pruning, PruningPolicy as P",
            "from tensorflow_model_optimization.sparsity.keras import PruningPolicy as P\nimport tfsparse.tfmot",
        ),
        (
            "from tensorflow_model_optimization.sparsity import keras as sk\nstrip_pruning = sk.strip_pruning",
            "import tfsparse.tfmot\nstrip_pruning = tfsparse.tfmot.strip_pruning",
        ),
        (
            "import tensorflow_model_optimization\n"
            "strip_pruning = tensorflow_model_optimization.sparsity.keras.strip_pruning",
            "import tfsparse.tfmot\nstrip_pruning = tfsparse.tfmot.strip_pruning",
        ),
    ],
)
def test_names_are_followed_however_they_are_imported(imports, after):
    uses = "\nP = P if 'P' in globals() else None\nm = strip_pruning(m)\n"
    called = "strip_pruning" if "\n" in imports else "tfsparse.tfmot.strip_pruning"
    assert translate(imports + uses).translated == after + uses.replace("strip_pruning", called)


def test_zeros_are_kept_in_the_quantisation_of_a_stripped_model():
    keras, combine = "tfmot.quantization.keras", "tfmot.experimental.combine"
    code = f"s = tfmot.sparsity.keras.strip_pruning(m)\nq = {keras}.quantize_model(s)\n"
    assert f"q = tfsparse.tfmot.keep_zeros({keras}.quantize_model(s))" in translate(IMPORT + code).translated
    code = f"q = {keras}.quantize_apply(a, {combine}.Default8BitPrunePreserveQuantizeScheme())\n"
    assert f"q = tfsparse.tfmot.keep_zeros({keras}.quantize_apply(a))" in translate(IMPORT + code).translated
    code = f"q = {keras}.quantize_apply(a, scheme)\n"
    assert translate(IMPORT + code).translated == IMPORT + code


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_situations_of_tfmots_guide_are_translated_or_refused(script):
    """Whether the models are equal before and after is tested in tests/tfmot/test_script_models.py."""
    found = translate_file(script)
    assert compile(found.translated, script.name, "exec")
    assert [line for line, _ in found.refused] == ([9, 11, 12, 13, 16] if script.stem == "quantised_first" else [])


def test_the_page_shows_what_the_command_does():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "migrate.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(code) == 8
    for before, after in zip(code[::2], code[1::2], strict=True):
        assert translate(before).translated == after


def test_the_command_prints_a_diff_that_patch_reads_and_remarks_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(f"{IMPORT}\nm = tfmot.sparsity.keras.strip_pruning(m)\n")
    done = CliRunner().invoke(app, ["migrate", "train.py"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("--- train.py\n+++ train.py\n@@ -1,3 +1,3 @@\n-import tensorflow_model_optimization")
    (tmp_path / "train.py").write_text(f"{IMPORT}\nm = tfmot.clustering.keras.cluster_weights(m)\n")
    done = CliRunner().invoke(app, ["migrate", "train.py"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "train.py:3: Not translated: cluster_weights: tfsparse has no weight clustering.\n"


@pytest.mark.parametrize(
    "code, message",
    [
        ("import keras\n", "does not import tensorflow_model_optimization"),
        ("def f(:\n", "line 1 is not Python"),
        (None, ""),
    ],
)
def test_what_is_no_script_for_tfmot_is_one_sentence(tmp_path, code, message):
    path = tmp_path / "train.py"
    if code:
        path.write_text(code)
    done = CliRunner().invoke(app, ["migrate", str(path)])
    assert done.exit_code == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert str(path) in done.stderr and message in done.stderr
