"""The config section `prune`."""

import pytest
from small_config import small
from typer.testing import CliRunner

from tfsparse.backend import run_directory, run_record
from tfsparse.experiments import assembly, config
from tfsparse.experiments.methods.prune import PruneConfig
from tfsparse.optimizers.addons import HAM, SparseOpt
from tfsparse.reporting import page
from tfsparse.schedules import Auto
from tfsparse_command.app import app


def test_bounds_reach_the_callback():
    (prune,) = assembly.callbacks(small("prune.min_sparsity=0.5", "prune.max_sparsity=0.97"))
    assert prune.choice.bounds == (0.5, 0.97)
    with pytest.raises(ValueError, match=r"\(min_sparsity, max_sparsity\)=\(0.9, 0.5\): expected the least"):
        assembly.callbacks(small("prune.min_sparsity=0.9", "prune.max_sparsity=0.5"))


@pytest.mark.parametrize(
    ("pruner", "scope"),
    [("magnitude", "global"), ({}, "global"), ("random", "layer"), ({"allocation": "erk"}, "layer")],
)
def test_a_config_holds_the_scope_that_it_was_read_with(pruner, scope):
    section = PruneConfig(sparsity=0.5, pruner=pruner)
    assert section.model_dump()["pruner"]["scope"] == scope


def test_a_pruner_without_a_scope_keeps_its_options():
    section = PruneConfig(sparsity=0.5, pruner={"name": "none", "seed": 3})
    assert section.model_dump()["pruner"] == {"name": "none", "seed": 3}


def test_a_config_written_again_is_the_same():
    read = small("prune.pruner=magnitude")
    assert config.differences(read, config.validate(read.model_dump(mode="json"))) == []


def test_auto_reaches_the_callback_and_names_itself():
    plain, options = small("prune.sparsity=auto"), "prune.schedule={name: auto, levels: [0.5, 0.8]}"
    (prune,) = assembly.callbacks(plain)
    assert (prune.schedule, assembly.label(plain)) == (Auto(), "auto, magnitude")
    changed = small("prune.sparsity=auto", "prune.drop=0.02", options)
    (prune,) = assembly.callbacks(changed)
    assert prune.schedule == Auto((0.5, 0.8), drop=0.02)
    assert assembly.label(changed) == "auto (levels=(0.5, 0.8)), drop 0.02, magnitude"
    assert assembly.target_sparsity(changed) is None
    assert config.differences(changed, config.validate(changed.model_dump(mode="json"))) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["prune.sparsity=automatic"],
            "prune.sparsity='automatic': expected a fraction of zeros in [0, 1), such",
        ),
        (["prune.sparsity=auto", "prune.drop=-1"], "prune.drop=-1: expected null, or for sparsity: auto a drop of"),
        (["prune.drop=0.01"], 'drop=0.01 belongs to sparsity="auto": write sparsity="auto", or leave drop out.'),
        (["prune.sparsity=auto", "prune.schedule=linear"], "and so does Linear("),
        (
            ["prune.sparsity=auto", "prune.schedule={name: auto, levels: [0.8, 0.5]}"],
            "expected ascending sparsities in",
        ),
        (["prune.sparsity=auto", "epochs=2"], 'Training has 2 epochs, and sparsity="auto" tries no level in it'),
    ],
)
def test_mistakes_with_auto_are_one_sentence(overrides, message, tmp_path):
    sets = [word for override in overrides for word in ("--set", override)]
    done = CliRunner().invoke(app, ["train", *sets, "--out", str(tmp_path / "run")])
    assert (done.exit_code, "Traceback" in done.output) == (2, False)
    assert done.output.startswith("Error: ") and message in done.output
    assert not (tmp_path / "run").exists()


def test_the_command_trains_to_the_sparsity_that_it_finds(tmp_path):
    sets = [
        "--set",
        "prune={sparsity: auto, drop: 0.4}",
        "--set",
        "epochs=4",
        "--set",
        "model={name: mlp, widths: [16]}",
    ]
    done = CliRunner().invoke(app, ["train", *sets, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    run = run_record.read(tmp_path / "run")
    assert run["summary"]["asked_sparsity"] is None and "(target none)" in done.output
    model = run_directory.read_model(tmp_path / "run" / "model.keras")
    assert model.optimizer.num_zeros() == model.optimizer.mask_state.target_counts().sum() > 0
    assert {"level_holds", "drop_limit"} <= run["epochs"][-1].keys()
    assert "Search for the sparsity" in page.render(run)


def test_add_ons_reach_the_callback_and_the_label():
    with_both = small("prune.addons=[{name: ham, alpha: 5}, sparse_opt]")
    (prune,) = assembly.callbacks(with_both)
    assert prune.addons == (HAM(alpha=5), SparseOpt())
    assert assembly.label(with_both) == "one_cycle, magnitude, ham (alpha=5), sparse_opt"
    assert config.differences(with_both, config.validate(with_both.model_dump(mode="json"))) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("[hamm]", "Unknown add-on 'hamm': expected one of ham, .*sparse_opt"),
        ("[{name: ham, alfa: 5}]", "HAM has no option 'alfa'"),
        ("[ham, ham]", "has HAM twice"),
    ],
)
def test_mistakes_with_add_ons(override, message):
    with pytest.raises(ValueError, match=message):
        assembly.callbacks(small(f"prune.addons={override}"))


def test_add_ons_also_work_after_pruning_before_training():
    (prune,) = assembly.callbacks(small("prune.schedule=constant", "prune.pruner=synflow", "prune.addons=[ham]"))
    assert prune.addons == (HAM(),)
