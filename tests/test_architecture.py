"""The house: rooms, arrows between them, and the words that identifiers are made of."""

import ast
import pathlib
import tokenize

import keras
import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "tfsparse"
FILES = sorted(PACKAGE.rglob("*.py"))
# one tuple per floor, from the ground up; rooms of one floor may use each other as long as that makes no circle
FLOORS = [
    ("backend", "version"),
    ("masks",),
    ("schedules", "pruners", "consistency"),
    ("optimizers", "structured"),
    ("callbacks",),
    ("methods",),
    ("reporting", "export"),
    ("doctor", "tfmot"),
    ("testing",),
    ("experiments",),
]
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
# words that meant something to us alone; docs/design.md has what is said instead
FORMER_WORDS = [
    "Fate", "Gone", "LivingOn", "cover", "take_written", "unseen", "ranked", "Wishes", "Lookout", "agreement",
    "Traffic", "engine", "roulette", "Surface", "bite", "events", "Steer", "Control", "LastCut", "Thresholding",
    "Walk", "Mark", "Ties", "Flow", "Use", "Slice", "marks", "producers", "constants", "adopt", "remember",
    "memory", "fault", "jointly", "reachable", "settle", "spread", "of", "at", "churn", "draw", "shares", "within",
]  # fmt: skip


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path):
    """The modules of the package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "tfsparse")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tfsparse":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows():
    """(room, room it imports) of all files but the package's own `__init__`, which gathers the public names."""
    for path in FILES:
        if path.parent != PACKAGE:
            for module in imported_modules(path):
                yield room_of(path), (module + ".").split(".")[1], path, module


def test_there_are_at_most_16_rooms_and_every_room_has_a_floor():
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms == set(HEIGHT) and len(rooms) <= 16


def test_no_import_runs_upwards():
    upward = [f"{path.relative_to(PACKAGE)}: {m}" for a, b, path, m in arrows() if HEIGHT.get(b, 0) > HEIGHT[a]]
    assert not upward


def test_imports_between_rooms_make_no_circle():
    below = {}
    for room, imported, _, _ in arrows():
        if room != imported and imported in HEIGHT:
            below.setdefault(room, set()).add(imported)
    while below:
        ground = [room for room, imported in below.items() if not imported & below.keys()]
        assert ground, f"these rooms import each other: {sorted(below)}"
        for room in ground:
            del below[room]


def test_a_function_is_imported_from_the_module_that_defines_it():
    """`tfsparse.export` and `tfsparse.doctor` are functions and rooms; inside the package the names mean the rooms."""
    from_top = [f"{path.relative_to(PACKAGE)}: {m}" for _, room, path, m in arrows() if room not in HEIGHT]
    assert not from_top
    for room in ("export", "doctor", "reporting"):
        tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
        names = [node.asname or node.name for node in ast.walk(tree) if isinstance(node, ast.alias)]
        assert not set(names) & {path.stem for path in (PACKAGE / room).glob("*.py")}, "a name hides a module"


def test_only_the_tfmot_room_imports_tf_keras_and_tfmot():
    for path in FILES:
        if room_of(path) != "tfmot":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not [n for n in names if n.split(".")[0] in ("tf_keras", "tensorflow_model_optimization")], path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_identifiers_are_the_words_of_the_field(path):
    with tokenize.open(path) as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    former = [t for t in tokens if t.type == tokenize.NAME and t.string in FORMER_WORDS]
    # JAX and NumPy: `.at` updates entries of an array. `tfsparse.at` is a function.
    allowed = (".at[", ".at(", "def at(", " import at\n")
    former = [t for t in former if not any(text in t.line for text in allowed)]
    assert not sorted({f"{t.string} in line {t.start[0]}" for t in former})


def names_given_in(path):
    """Names of functions and classes, and of variables and attributes that are assigned."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


OWN = {name for path in FILES for name in names_given_in(path)}
KERAS = {name for cls in (keras.Model, keras.Sequential, keras.Variable, keras.KerasTensor) for name in dir(cls)}
KERAS |= {*vars(keras.optimizers.SGD()), *vars(keras.layers.Dense(1)), *dir(keras.optimizers.SGD)}


def private_attributes(path):
    """Private attributes that are not the package's own, or that Keras's objects have."""
    here = set(names_given_in(path))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            of_keras = node.attr in KERAS and not (ast.unparse(node.value) == "self" and node.attr in here)
            if node.attr not in OWN or of_keras:
                yield f"{node.attr} in line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_attributes_of_keras_are_touched_in_one_file(path):
    if path != PACKAGE / "backend" / "keras_internals.py":
        assert not sorted(set(private_attributes(path)))
        assert "keras.src" not in path.read_text(encoding="utf-8"), "go through backend/keras_internals.py"
