"""Configs: what is written is what runs, and what is wrong is named."""

import itertools

import pytest
from small_config import configs

from tfsparse.experiments import config
from tfsparse.experiments.config import ConfigError

CONFIGS = configs()
SMALL = {"epochs": 3, "data": {"name": "digits"}, "model": {"name": "mlp", "widths": [32]}, "prune": {"sparsity": 0.9}}


@pytest.mark.parametrize("path", [*CONFIGS, config.QUICK_START], ids=lambda path: path.name)
def test_every_config_is_valid_and_survives_being_written_and_read(path):
    loaded = config.load(path)
    assert config.validate(loaded.model_dump(mode="json")) == loaded
    assert path.read_text().startswith("# "), "the first line says what the config shows"


def test_the_quick_start_is_the_one_in_configs():
    (same,) = [path for path in CONFIGS if path.name == "digits_quickstart.yaml"]
    assert same.read_text() == config.QUICK_START.read_text()


def test_short_and_long_forms_mean_the_same():
    short = config.validate(SMALL, ["prune.pruner=random", "optimizer=adam"])
    long = config.validate(SMALL, ["prune.pruner={name: random}", "optimizer={name: adam}"])
    assert short == long
    assert short.prune.pruner.name == "random"


def test_overrides_reach_below_a_short_form_and_below_nothing():
    changed = config.validate(SMALL, ["prune.pruner=magnitude", "prune.pruner.scope=global", "optimizer.momentum=0.9"])
    assert changed.prune.pruner.options == {"scope": "global"}
    assert changed.optimizer.options == {"momentum": 0.9}


def test_overrides_leave_the_mapping_alone():
    before = repr(SMALL)
    config.validate(SMALL, ["data.batch_size=7", "prune=null"])
    assert repr(SMALL) == before


@pytest.mark.parametrize(
    "text, value", [("1e-3", 1e-3), ("5E-4", 5e-4), (".5", 0.5), ("1", 1), ("1.0e+5", 1e5), ("[1, 4]", (1, 4))]
)
def test_values_are_yaml_and_1e_minus_3_is_a_number(text, value):
    options = config.validate(SMALL, [f"optimizer.weight_decay={text}"]).optimizer.options
    assert options == {"weight_decay": value}
    assert type(options["weight_decay"]) is type(value)


def test_differences_name_the_keys():
    old, new = config.validate(SMALL), config.validate(SMALL, ["epochs=4", "prune.pruner.scope=layer"])
    assert config.differences(old, old) == []
    assert config.differences(old, new) == ["epochs: 3 -> 4", "prune.pruner.scope: 'global' -> 'layer'"]


WRONG = [
    ("data.batch_siz=3", "data.batch_siz is not a key: did you mean data.batch_size?"),
    ("epoch=3", "did you mean epochs?"),
    ("prune.sparcity=0.9", "did you mean prune.sparsity?"),
    ("optimizer.learning_rate={name: one_cycle, maxx: 0.1}", "did you mean optimizer.learning_rate.max?"),
    ("zzz=3", "zzz is not a key: The keys here are name, seed, epochs"),
    ("prune.sparsity=90", "prune.sparsity=90: expected a fraction of zeros in [0, 1)"),
    ("prune.sparsity=1.0", "prune.sparsity=1.0: expected"),
    ("prune.sparsity=-0.1", "prune.sparsity=-0.1: expected"),
    ("prune.sparsity=.nan", "prune.sparsity=nan: expected"),
    ("prune={schedule: one_cycle}", "prune.sparsity is missing: expected a fraction"),
    ("data.standardize=no thanks", "data.standardize='no thanks': expected true, or false to leave pixels in [0, 1]"),
    ("epochs=true", "epochs=True: expected a whole number"),
    ("epochs=1000000000000", "epochs=1000000000000: expected a whole number of at least 1"),
    ("epochs=0", "epochs=0: expected a whole number of at least 1"),
    ("data.augment=flip", "data.augment='flip': expected null or pad_crop_flip"),
    ("jit_compile=perhaps", "jit_compile='perhaps': expected true, false or auto"),
    ("precision=int8", "precision='int8': expected float32 or mixed_bfloat16"),
    ("optimizer.learning_rate=-1", "optimizer.learning_rate=-1: expected a number above 0"),
    ("optimizer.learning_rate={name: cosine, max: 1.0}", "optimizer.learning_rate.name='cosine': expected one_cycle"),
    ("prune.schedule=3", "prune.schedule=3: expected one_cycle, or"),
    ("model=null", "model=None: expected a section such as"),
    ("epochs.a=3", "epochs is 3 and has no keys"),
    ("epochs", "'epochs' is not key=value; write e.g. --set prune.sparsity=0.95"),
    ("data..name=digits", "is not key=value"),
    ("data.name=[1", "is not valid YAML in line 1"),
    ("optimizer={name: sgd, name: adam}", "the key 'name' is there twice"),
    ("optimizer.learning_rate=.inf", "optimizer.learning_rate=inf: expected a number above 0"),
    ("optimizer.learning_rate={name: one_cycle, max: .inf}", "optimizer.learning_rate.max=inf: expected the highest"),
    ("optimizer.momentum=.nan", "optimizer.momentum=nan: expected a finite number."),
    ("prune.schedule={name: one_cycle, alpha: .inf}", "prune.schedule.alpha=inf: expected a finite number."),
    ("model.widths=[16, .inf]", "model.widths=[16, inf]: expected a finite number."),
    ("optimizer={name: sgd, 1: 2}", "optimizer.1 is not a key: keys are words."),
    (f"seed={'9' * 4000}", f"seed={'9' * 200}...: expected a whole number of at least 0"),
]


@pytest.mark.parametrize("override, message", WRONG, ids=[override for override, _ in WRONG])
def test_wrong_values_are_named_with_what_was_expected(override, message):
    with pytest.raises(ConfigError) as caught:
        config.validate(SMALL, [override])
    assert message in str(caught.value)


def test_all_problems_are_listed_at_once():
    with pytest.raises(ConfigError) as caught:
        config.validate({"data": {"name": "digits", "bath_size": 3}}, source="a.yaml")
    lines = str(caught.value).splitlines()
    assert lines[0] == "a.yaml is not a valid config:"
    assert [line.split()[0] for line in lines[1:]] == ["epochs", "data.bath_size", "model"]


def bomb(first, line):
    """Nine lines, of which each stands for nine times the one before."""
    lines = [f"{new}: &{new} {line.format(', '.join([f'*{old}'] * 9))}" for old, new in itertools.pairwise("abcdefghi")]
    return "\n".join([f"a: &a {first}", *lines]).encode()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"data: [1\nname: x", "is not valid YAML in line 2"),
        (b"", "holds nothing"),
        (b"- a\n- b", "holds a list"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
        (b"a: \x00", "is not valid YAML"),
        (b"[" * 1000 + b"]" * 1000, "in line 1, column 51: nested deeper than 50 levels"),
        ("".join(f"{' ' * i}a:\n" for i in range(1000)).encode(), "in line 50, column 50: nested deeper"),
        (b"epochs: 1\nseed: 3\nepochs: 2", "in line 3, column 1: the key 'epochs' is there twice; remove one."),
        (bomb("[1]", "[{}]"), "more than 10,000 values"),
        (bomb("{x: 1}", "{{<<: [{}]}}"), "more than 10,000 values"),
        (b"a: &a [*a]", "an alias inside of what it stands for"),
        (b"a: &a {b: *a}", "an alias inside of what it stands for"),
        (b"name: !!bool maybe", "in line 1, column 7: 'maybe' is not a value of"),
        (b"name: !!timestamp soon", "'soon' is not a value of"),
        (b"name: 2001-99-99", "'2001-99-99' is not a value of"),
        (b"name: !!python/object:os.system x", "could not determine a constructor for the tag"),
        (b"? [a]\n: 1", "found unhashable key"),
        (b"1: 2", "1 is not a key: keys are words"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_unreadable_files_are_named(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_aliases_and_merged_sections_are_read(tmp_path):
    text = "epochs: &n 3\nseed: *n\nmodel: &m {name: mlp, momentum: 0.5}\noptimizer: {<<: *m, name: sgd}"
    (tmp_path / "config.yaml").write_text(text)
    read = config.read(tmp_path / "config.yaml")
    assert read["seed"] == 3 and read["optimizer"] == {"name": "sgd", "momentum": 0.5}


def test_missing_file_and_directory(tmp_path):
    for path, reason in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=reason):
            config.load(path)
