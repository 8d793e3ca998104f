"""Scripts for TFMOT in the names of `tfsparse.tfmot`. All else of a script stays as it is written."""

import ast
import difflib
import itertools
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tfsparse.experiments.source_edits import Edits

_PACKAGE = "tensorflow_model_optimization"
_PRUNING = "sparsity.keras."
_SCHEDULE = _PRUNING + "PolynomialDecay"
_SCHEDULE_ARGUMENTS = ["initial_sparsity", "final_sparsity", "begin_step", "end_step", "power", "frequency"]
_PRESERVE_ZEROS = "experimental.combine.Default8BitPrunePreserveQuantizeScheme"
_QUANTISE = ("quantization.keras.quantize_model", "quantization.keras.quantize_apply")
_ANNOTATE = ("quantization.keras.quantize_annotate_model", "quantization.keras.quantize_annotate_layer")
_RENAMED = {
    _PRUNING + "prune_low_magnitude": "tfsparse.tfmot.prune_low_magnitude",
    _PRUNING + "strip_pruning": "tfsparse.tfmot.strip_pruning",
    _PRUNING + "prune_scope": "tfsparse.tfmot.scope",
    _PRUNING + "UpdatePruningStep": "tfsparse.tfmot.Prune",
    _SCHEDULE: "tfsparse.tfmot.Polynomial",
}
_KEPT = {
    _PRUNING + "ConstantSparsity": "tfsparse takes this schedule of TFMOT as it is",
    _PRUNING + "PruningSchedule": "tfsparse takes schedules of this class as they are",
    _PRUNING + "PruningSummaries": "this callback shows the wrappers of tfsparse, too",
    _PRUNING + "PruningPolicy": "tfsparse takes policies of this class as they are",
    _PRUNING + "PruneForLatencyOnXNNPack": "tfsparse takes this policy of TFMOT as it is",
    _PRUNING + "PrunableLayer": "tfsparse takes layers of this class as they are",
}


class Remark(NamedTuple):
    """A sentence about one line of a script."""

    line: int
    text: str


class Translation(NamedTuple):
    """A script in the names of `tfsparse.tfmot`.

    Attributes:
        source: The script as it was.
        translated: The script as it is now.
        remarks: What stays TFMOT's because it works with tfsparse, and what is no longer needed.
        refused: What cannot be translated, each with its reason. It is left for the user to rewrite.
    """

    source: str
    translated: str
    remarks: list[Remark]
    refused: list[Remark]

    def diff(self, name: str) -> str:
        """Return a unified diff that `patch` understands.

        Args:
            name: Path of the script, for the header.
        """
        before, after = (text.splitlines(keepends=True) for text in (self.source, self.translated))
        return "".join(difflib.unified_diff(before, after, name, name))


def translate(source: str) -> Translation:
    """Translate a script that prunes with TFMOT.

        wrappers, schedules, callbacks, scopes   the names of tfsparse.tfmot, with scope="layer", which TFMOT's rule is
        quantisation of a stripped model         keep_zeros(...) around it, instead of TFMOT's scheme
        everything else                          stays, also line breaks and comments

    Args:
        source: Python code.

    Returns:
        The translation.

    Raises:
        ValueError: If the code cannot be parsed or does not import TFMOT.

    Examples:
        >>> print(translate("from tensorflow_model_optimization.sparsity.keras import strip_pruning").translated)
        import tfsparse.tfmot
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno} is not Python: {error.msg}.") from None
    return _Translator(source, tree).run()


def translate_file(path: Path) -> Translation:
    """Translate the script in a file, see `translate`; errors name the file."""
    try:
        with tokenize.open(path) as file:
            return translate(file.read())
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no Python script that can be read: {error}.") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class _Names:
    """What the names of a script mean that lead to TFMOT: those that it imports, and those that it assigns."""

    def __init__(self, tree):
        self.imported, self.assigned = {}, {}
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imported |= {_bound(alias, node): meaning for alias, meaning in _tfmot_imports(node)}
        for node in _in_order(tree, ast.Assign):
            meaning = self.meaning(node.value)
            if meaning and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                self.assigned[node.targets[0].id] = meaning

    def meaning(self, node) -> str | None:
        """Return the full name of what an expression refers to, if it is TFMOT's."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id) or self.assigned.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self.meaning(node.value)
            return base and f"{base}.{node.attr}"
        return None

    def public(self, node) -> str | None:
        """Return the name inside of TFMOT, such as `sparsity.keras.strip_pruning`."""
        return (self.meaning(node) or "").removeprefix(_PACKAGE).lstrip(".") or None


class _Translator:
    def __init__(self, source, tree):
        self.tree, self.names, self.edits = tree, _Names(tree), Edits(source)
        self.remarks, self.refused = [], []
        self.parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self.is_changed, self.dropped_uses, self.origins, self.blocks = False, set(), {}, set()

    def run(self) -> Translation:
        if not self.names.imported and not any(_tfmot_imports(node) for node in _in_order(self.tree, ast.ImportFrom)):
            raise ValueError("the script does not import tensorflow_model_optimization, so there is nothing to do.")
        renamed = self._renamed()
        for node in _in_order(self.tree, ast.Name, ast.Attribute):
            if self._is_whole(node):
                self._reference(node, renamed)
        for node in _in_order(self.tree, ast.Call, ast.Assign):
            self._order(node) if isinstance(node, ast.Call) else self._remember(node)
        for node in _in_order(self.tree, ast.Import, ast.ImportFrom):
            self._import(node)
        found = (sorted(set(each)) for each in (self.remarks, self.refused))
        return Translation(self.edits.source, self.edits.apply(), *found)

    # ------------------------------------------------------------------------------------------------- references

    def _is_whole(self, node):
        """Whether a reference to TFMOT is not the beginning of a longer one."""
        parent = self.parents.get(node)
        is_part = isinstance(parent, ast.Attribute) and self.names.public(parent)
        return self.names.public(node) and not is_part and isinstance(node.ctx, ast.Load)

    def _renamed(self):
        """Return the new names. TFMOT's PolynomialDecay stays if one of its uses cannot be translated."""
        uses = [n for n in ast.walk(self.tree) if self.names.public(n) == _SCHEDULE and isinstance(n.ctx, ast.Load)]
        untranslatable = [node for node in uses if not self._is_known_schedule(node)]
        for node in untranslatable[:1]:
            self._remark(node, "PolynomialDecay stays: tfsparse takes this schedule of TFMOT as it is")
        return {name: new for name, new in _RENAMED.items() if name != _SCHEDULE or not untranslatable}

    def _is_known_schedule(self, node):
        """Whether a reference to PolynomialDecay is a call with plain arguments, or gives it another name."""
        call = self.parents[node]
        if isinstance(call, ast.Assign):
            return True
        if not isinstance(call, ast.Call) or call.func is not node:
            return False
        names = _SCHEDULE_ARGUMENTS[: len(call.args)] + [keyword.arg for keyword in call.keywords]
        is_starred = any(isinstance(argument, ast.Starred) for argument in call.args)
        return not is_starred and set(names) <= set(_SCHEDULE_ARGUMENTS)

    def _reference(self, node, renamed):
        name, parent = self.names.public(node), self.parents[node]
        call = parent if isinstance(parent, ast.Call) and parent.func is node else None
        if name in renamed and isinstance(parent, ast.ClassDef):
            self._refuse(node, f"a subclass of {_last(name)} may change what TFMOT does in it: rewrite it by hand")
        elif name in renamed:
            self._rename(node, renamed[name], call)
        elif name == _PRUNING + "PrunableLayer" and isinstance(parent, ast.ClassDef) and len(parent.bases) > 1:
            self._remark(node, "PrunableLayer is not needed: tfsparse asks any layer for get_prunable_weights")
            self._drop(node)
        elif name in _KEPT:
            self._remark(node, f"{_last(name)} stays: {_KEPT[name]}")
        elif name.startswith("python."):
            self._refuse(node, f"{_last(name)} is of a private module of TFMOT, which has no counterpart")
        elif name.startswith("clustering.") or "Cluster" in name:
            self._refuse(node, f"{_last(name)}: tfsparse has no weight clustering")
        elif name.startswith(_PRUNING) and name != _SCHEDULE:
            self._refuse(node, f"tfsparse knows no {_last(name)}")

    def _rename(self, node, new, call):
        if not (isinstance(node, ast.Name) and node.id in self.names.assigned):
            self.edits.replace(node, new)
            self.dropped_uses.add(_root(node))
            self.is_changed = True
        if call and new.endswith(".prune_low_magnitude"):
            self.edits.append_argument(call, 'scope="layer"')
        if call and new.endswith(".Polynomial"):
            self._polynomial(call)

    def _polynomial(self, call):
        for argument, name in zip(call.args[:5], _SCHEDULE_ARGUMENTS, strict=False):
            self.edits.insert_before(argument, f"{name.replace('final_sparsity', 'sparsity')}=")
        for keyword in call.keywords:
            if keyword.arg == "final_sparsity":
                self.edits.replace_keyword(keyword, "sparsity")
        frequency = [*call.args[5:], *(keyword for keyword in call.keywords if keyword.arg == "frequency")]
        for argument in frequency:
            self._remark(argument, "frequency is dropped: masks are updated at most 1000 times, and at end_step")
            self.edits.remove_argument(argument)

    def _drop(self, node):
        self.edits.remove_argument(node)
        self.dropped_uses.add(_root(node))

    # ----------------------------------------------------------------------------------- the order of quantisation

    def _remember(self, assignment):
        for target in assignment.targets:
            if isinstance(target, ast.Name):
                self.origins[target.id] = self._origin(assignment.value)

    def _origin(self, node):
        """Return what made a model: the last of "pruned", "stripped" and "quantised"; None if that is not known."""
        if isinstance(node, ast.Name):
            return self.origins.get(node.id)
        if not isinstance(node, ast.Call):
            return None
        name, first = self.names.public(node.func), _first_argument(node)
        made = {_PRUNING + "prune_low_magnitude": "pruned", _PRUNING + "strip_pruning": "stripped"}
        made |= dict.fromkeys(_QUANTISE, "quantised")
        return self._origin(first) if name in _ANNOTATE else made.get(name)

    def _order(self, call):
        name, origin = self.names.public(call.func), self._origin(_first_argument(call))
        if name == _PRUNING + "prune_low_magnitude" and origin == "quantised":
            self._refuse(call, "a quantised model cannot be pruned: prune, strip, and then quantise the stripped model")
        elif name in (*_QUANTISE, *_ANNOTATE) and origin == "pruned":
            plain = f"tfsparse.tfmot.strip_pruning({ast.unparse(_first_argument(call))})"
            self._refuse(call, f"a wrapped model cannot be quantised: quantise {plain}")
        elif name in _QUANTISE:
            schemes = [node for node in _arguments(call) if self._is_preserving(node)]
            for scheme in schemes:
                self._remark(scheme, "the scheme is not needed: keep_zeros keeps the zeros, of all kinds of layers")
                self._drop_scheme(scheme)
            if schemes or origin == "stripped":
                self.edits.wrap(call, "tfsparse.tfmot.keep_zeros(", ")")
                self.is_changed = True

    def _is_preserving(self, argument):
        value = argument.value if isinstance(argument, ast.keyword) else argument
        return isinstance(value, ast.Call) and self.names.public(value.func) == _PRESERVE_ZEROS

    def _drop_scheme(self, argument):
        value = argument.value if isinstance(argument, ast.keyword) else argument
        self.edits.remove_argument(argument)
        self.dropped_uses.add(_root(value.func))

    # ---------------------------------------------------------------------------------------------------- imports

    def _import(self, node):
        """Import tfsparse beside TFMOT, or in its place if the script needs nothing of TFMOT any more."""
        found = _tfmot_imports(node)
        if any(alias.name == "*" for alias, _ in found):
            self._refuse(node, "what `*` imports is not visible here: name what the script needs")
        if not found or not self.is_changed:
            return
        gone = [alias for alias, _ in found if self._is_unused(_bound(alias, node))]
        rest = [alias for alias in node.names if alias not in gone]
        block = self.parents[node]
        lines = [] if not rest else [ast.unparse(type(node)(**vars(node) | {"names": rest}))]
        lines += [] if block in self.blocks else ["import tfsparse.tfmot"]
        self.blocks.add(block)
        if not gone:
            self.edits.insert_lines_after(node, lines[1:])
        elif lines:
            self.edits.replace(node, ("\n" + " " * node.col_offset).join(lines))
        else:
            self.edits.remove_line(node)

    def _is_unused(self, name):
        """Whether all uses of a name are gone."""
        uses = {node for node in ast.walk(self.tree) if isinstance(node, ast.Name) and node.id == name}
        return uses <= self.dropped_uses

    def _remark(self, node, text):
        self.remarks.append(Remark(node.lineno, text))

    def _refuse(self, node, text):
        self.refused.append(Remark(node.lineno, text))


def _in_order(tree, *kinds) -> Iterator[ast.AST]:
    """Return the nodes of some kinds in the order of their lines."""
    return iter(sorted((n for n in ast.walk(tree) if isinstance(n, kinds)), key=lambda n: (n.lineno, n.col_offset)))


def _tfmot_imports(node):
    """Return the names of an import statement that lead to TFMOT: each with what it means."""
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        return [(a, f"{module}.{a.name}") for a in node.names if module.split(".")[0] == _PACKAGE and not node.level]
    names = [alias for alias in node.names if alias.name.split(".")[0] == _PACKAGE]
    return [(alias, alias.name if alias.asname else _PACKAGE) for alias in names]


def _bound(alias, node):
    """Return the name that an import binds."""
    return alias.asname or (alias.name if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0])


def _root(node):
    while isinstance(node, ast.Attribute):
        node = node.value
    return node


def _last(name):
    return name.rpartition(".")[2]


def _arguments(call):
    return itertools.chain(call.args, call.keywords)


def _first_argument(call):
    return next(iter(call.args), call.keywords[0].value if call.keywords else None)
