"""What to train so that zeros pay on a target."""

import dataclasses
import json
import os
import pathlib

import keras
import numpy as np

from tfsparse import pruners
from tfsparse.backend import extras
from tfsparse.doctor import patterns, subject, targets
from tfsparse.doctor.target import Target
from tfsparse.masks import granularity as granularities
from tfsparse.optimizers import compiled_model, one_shot
from tfsparse.pruners import selection
from tfsparse.reporting.tables import Printed

_RIVALS = ("dst", "pll", "activation_density")  # sections that say, as `prune` does, what is left of the network


@dataclasses.dataclass(frozen=True)
class Choice:
    """One weight: the `granularity` that it is to be pruned in, "dense" where it shall not be; whether its zeros then
    make it `smaller` and `faster`, as in a `Diagnosis`, and `why` not."""

    weight: str
    shape: tuple[int, ...]
    granularity: str
    smaller: str
    faster: str
    why: str


@dataclasses.dataclass(frozen=True)
class Plan(Printed):
    """What to train for a target; prints itself as a table.

    `config` is a config for `tfsparse train`, or of a bare model its section `prune` alone.

    >>> plan = tfsparse.plan(model, "tflite-cpu", 0.9); print(plan); plan.write("plan.yaml")
    """

    width = 140
    model: str
    target: str
    sparsity: float
    rows: tuple[Choice, ...]
    notes: tuple[str, ...]
    config: dict

    def as_dict(self) -> dict:
        """Everything, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def yaml(self) -> str:
        """The config as the text of a file."""
        return _yaml(self.config)

    def write(self, path: str | os.PathLike) -> None:
        """Write the config to a new file.

        Raises: ValueError if there is a file already.
        """
        path = pathlib.Path(path)
        if path.exists():
            raise ValueError(f"{path} exists already: remove it, or write the plan to another path.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.yaml(), encoding="utf-8")

    def table(self):
        """A `rich.table.Table`."""
        from rich.table import Table

        lines = (f"{self.model}, {self.sparsity:.0%} zeros for {self.target}", *(f"- {note}" for note in self.notes))
        table = Table(title="\n".join(lines), title_justify="left", title_style="", caption_justify="left", expand=True)
        for name in ("weight", "shape", "granularity", "smaller", "faster", "why"):
            table.add_column(name, overflow="fold")
        for r in self.rows:
            table.add_row(r.weight, "x".join(map(str, r.shape)), r.granularity, r.smaller, r.faster, r.why)
        table.caption = _yaml({"prune": self.config["prune"]}).strip()
        return table


def plan(
    model: keras.Model | str | os.PathLike, target: str | Target = "tflite-cpu", sparsity: float = 0.9
) -> Plan:
    """Choose for every weight the granularity whose zeros pay on a target, and write the config that trains it.

        a copy of the model is cut once, as the config would cut it, and looked at as `tfsparse.doctor` does;
        what would be neither smaller nor faster is left dense, as far as `skip_first` and `skip_last` can say that

    Args:
        model: a Keras 3 model; the path of a `.keras` file or a run directory; or a config for `tfsparse train`
            (.yaml), of which all but the section that prunes is kept.
        target: as for `doctor`.
        sparsity: fraction of zeros in [0, 1).

    Raises: ValueError if nothing gains by it on that target, and as `doctor`.

    >>> print(tfsparse.plan("configs/digits_quickstart.yaml", "tflite-cpu", sparsity=0.9))
    """
    place, sparsity = targets.get(target), selection.check_sparsity(sparsity)
    base, patient = _read(model)
    units = _units(place, patient, sparsity)
    rows = tuple(_choices(patient, place, units, sparsity))
    if all(row.granularity == "dense" for row in rows):
        reasons = "; ".join(dict.fromkeys(row.why for row in rows))
        raise ValueError(
            f"No weight of {patient.name} gains on {place.name} by {sparsity:.0%} zeros: {reasons}. Expected one that "
            "does: write another target or sparsity, or make the model smaller with tfsparse.slim(model)."
        )
    config, notes = _config(base, units, sparsity, rows)
    return Plan(patient.name, place.name, sparsity, rows, (*notes, *_left_over(rows)), config)


def _yaml(config):
    yaml = extras.require("yaml", "cli")
    return yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False, default_flow_style=None, width=120)


def _read(model):
    """The config that is changed, and the model."""
    if not isinstance(model, keras.Model) and pathlib.Path(model).suffix in (".yaml", ".yml"):
        return extras.require("tfsparse.experiments.planned", "cli").read(model)  # by name: it stands above this room
    return {}, subject.of(model, (subject.KerasSubject,), "trained")


def _units(place, patient, sparsity):
    """The granularity, of one kind where there is one kind of kernels only."""
    kinds = place.granularities(sparsity)
    there = {"dense" if len(weight.shape) == 2 else "conv" for weight in patient.weights()}
    chosen = [kinds[kind] for kind in ("dense", "conv") if kind in there]
    return kinds if len(set(chosen)) > 1 else next(iter(chosen), "weight")


def _choices(patient, place, units, sparsity):
    """What every weight will be, in a copy that is cut as the config will cut the model."""
    copy = keras.models.clone_model(patient.model)
    copy.set_weights(patient.model.get_weights())
    _disturb(copy)
    one_shot.prune(copy, sparsity, pruners.Magnitude(granularity=units))
    for weight in subject.KerasSubject(copy).weights():
        own = granularities.get(units).for_shape(weight.shape)
        pattern = patterns.found(weight.array)
        verdict = place.verdict(weight, pattern)
        chosen = str(own) if verdict.gains else "dense"
        yield Choice(weight.name, weight.shape, chosen, verdict.smaller, verdict.faster, verdict.why)


def _disturb(model):
    """What a layer adds is zero before training and is not after it: an empty channel emits something."""
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if len(variable.shape) == 1:
            variable.assign_add(random.uniform(0.01, 0.02, variable.shape).astype("float32"))


def _config(base, units, sparsity, rows):
    """The config with its section changed, and what else was changed."""
    before = base.get("prune") or {}
    pruner, notes = before.get("pruner", "magnitude"), []
    pruner = {"name": pruner} if isinstance(pruner, str) else dict(pruner)
    if units != "weight" and pruner.pop("scope", "layer") == "global":
        notes.append("scope: layer instead of global, since what a layer gains goes by its own share of zeros")
    section = {key: before[key] for key in ("schedule",) if key in before}
    section |= {"pruner": pruner | {"granularity": granularities.to_config(units)}, "sparsity": sparsity}
    section |= {
        key: True
        for key, row in (("skip_first", rows[0]), ("skip_last", rows[-1]))
        if row.granularity == "dense" or before.get(key)
    }
    pruners.get(**{"identifier" if key == "name" else key: value for key, value in section["pruner"].items()})
    return {key: value for key, value in base.items() if key not in _RIVALS} | {"prune": section}, notes


def _left_over(rows):
    """What a config has no word for."""
    inside = [row.weight for row in rows[1:-1] if row.granularity == "dense"]
    if inside:
        yield (
            f"a config cannot leave {', '.join(inside)} dense, so they are pruned for nothing: "
            "in Python write Prune(..., exclude=[those layers])"
        )
