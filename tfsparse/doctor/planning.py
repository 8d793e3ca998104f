"""What to train so that zeros make a model smaller or faster on a target."""

import dataclasses
import json
import os
import pathlib
import warnings

import keras
import numpy as np

from tfsparse import pruners
from tfsparse.backend import extras, files, variables
from tfsparse.backend.tables import Column, Printed, make_table, shape
from tfsparse.doctor import patterns, sources, targets
from tfsparse.doctor.diagnosis import TABLE_OPTIONS
from tfsparse.doctor.target import Target
from tfsparse.masks import granularity as granularities
from tfsparse.optimizers import one_shot
from tfsparse.pruners import effective_number, selection

_OTHER_METHODS = ("dst", "pll", "activation_density", "filter_pruning", "feature_relevance")  # `prune` replaces them
FROZEN = "frozen: training leaves it as it is"
COLUMNS = (
    "weight",
    Column("shape", text=shape),
    Column("prior", text="{:.2f}".format, justify="right"),
    "granularity",
    "smaller",
    "faster",
    "why",
)
_PRIOR = "prior: zeros that the magnitudes alone suggest; of a model before training it is that of the initializer"


@dataclasses.dataclass(frozen=True)
class Choice:
    """One weight of a plan.

    Args:
        weight: Its name.
        shape: Its shape.
        granularity: The granularity in which to prune it; "dense" if it shall not be pruned.
        smaller: Whether its zeros then make the file smaller: "yes", "no", "hardly" or "not measured".
        faster: Whether they make the model faster: the same words.
        why: Reason why they do not.
        prior: Sparsity that the present magnitudes alone suggest, `1 - effective number / size`. It is not measured: it
            says nothing of accuracy. Before training it is that of the initializer, 0.25 of uniform and 0.36 of normal
            numbers.
    """

    weight: str
    shape: tuple[int, ...]
    granularity: str
    smaller: str
    faster: str
    why: str
    prior: float


@dataclasses.dataclass(frozen=True, repr=False)
class Plan(Printed):
    """What to train for a target. `print` shows it as a table.

    Args:
        model: Name of the model.
        target: Name of the target.
        sparsity: Fraction of zeros in [0, 1).
        rows: One `Choice` for each weight.
        notes: Sentences about the config.
        config: A config for `tfsparse train`; of a model without a config only its section `prune`.

    Examples:
        >>> plan = tfsparse.plan(model, "tflite-cpu", 0.9); print(plan); plan.write("plan.yaml")
    """

    width = 140
    model: str
    target: str
    sparsity: float
    rows: tuple[Choice, ...]
    notes: tuple[str, ...]
    config: dict

    def yaml(self) -> str:
        """Return the config as the text of a file."""
        return _yaml(self.config)

    def write(self, path: str | os.PathLike, overwrite: bool = False) -> None:
        """Write the config to a file.

        Args:
            path: The file.
            overwrite: Whether to replace a file. Default: False, since somebody may have changed it.

        Raises:
            ValueError: If `path` is a directory, or a file that must not be replaced.
        """
        files.write_text(path, self.yaml(), overwrite)

    def table(self):
        """Return a `rich.table.Table`."""
        title = (f"{self.model}, {self.sparsity:.0%} zeros for {self.target}", *(f"- {note}" for note in self.notes))
        caption = _PRIOR + "\n" + _yaml({"prune": self.config["prune"]}).strip()
        return make_table(COLUMNS, self.rows, title="\n".join(title), caption=caption, **TABLE_OPTIONS)


def plan(model: keras.Model | str | os.PathLike, target: str | Target = "tflite-cpu", sparsity: float = 0.9) -> Plan:
    """Choose for every weight the granularity that gains most on a target, and write the config that trains it.

        prune a copy of the model once, as the config would prune it, and diagnose it as `tfsparse.doctor` does
        leave dense what would be neither smaller nor faster, as far as `skip_first` and `skip_last` can say that
        prior = 1 - floor(1 / sum w**2) / size,  w = |weight| / sum |weight|      of each weight, before it is pruned

    Frozen weights are shown with the zeros that they have: training does not change them.

    Args:
        model: A Keras 3 model; the path of a `.keras` file or a run directory; or a config for `tfsparse train`
            (.yaml), of which everything but the section of the pruning method is kept.
        target: "tflite-cpu" (x86), "xnnpack-arm" (never measured), "savedmodel" (TensorFlow, TensorFlow Serving, XLA),
            "any" (fewer channels), another registered name, or a `Target`. Default: "tflite-cpu".
        sparsity: Fraction of zeros in [0, 1). Default: 0.9.

    Returns:
        A `Plan`.

    Raises:
        ValueError: If no weight gains on the target, if all are frozen, if the target is unknown, or if the model
            cannot be read.

    Source:
        "Effective Model Pruning" (ICML 2026, arXiv 2509.25606), for the prior.

    Examples:
        >>> print(tfsparse.plan("configs/digits_quickstart.yaml", "tflite-cpu", sparsity=0.9))
    """
    target, sparsity = targets.get(target), selection.check_sparsity(sparsity)
    config, source = _read(model)
    granularity = _granularity(target, _trained(source), sparsity)
    rows = tuple(_choices(target, source, granularity, sparsity))
    if all(row.granularity == "dense" for row in rows):
        reasons = "; ".join(dict.fromkeys(row.why for row in rows))
        raise ValueError(
            f"No weight of {source.name} gains on {target.name} by {sparsity:.0%} zeros: {reasons}. Expected one that "
            "does: write another target or sparsity, or make the model smaller with tfsparse.slim(model)."
        )
    trained = [row for row in rows if row.why != FROZEN]
    config, notes = _config(config, granularity, sparsity, trained)
    return Plan(source.name, target.name, sparsity, rows, (*notes, *_pruned_in_vain(trained)), config)


def _yaml(config):
    yaml = extras.require("yaml", "cli")
    return yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False, default_flow_style=None, width=120)


def _read(model):
    """Return the config to change, and the model."""
    if not isinstance(model, keras.Model) and pathlib.Path(model).suffix in (".yaml", ".yml"):
        return extras.require("tfsparse.experiments.planned", "cli").read(model)  # by name: it stands above this room
    return {}, sources.read(model, (sources.KERAS,), "trained")


def _trained(source):
    """Return the weights that training prunes."""
    weights = source.weights()
    trained = [weight for weight in weights if not weight.is_frozen]
    if weights and not trained:
        raise ValueError(
            f"All weights of {source.name} are frozen, and training prunes no frozen weight: set trainable = True on "
            "the layers that shall be pruned."
        )
    return trained


def _granularity(target, weights, sparsity):
    """Return the target's granularities: one if they are equal for the kinds of kernels in the model."""
    by_kind = target.granularities(sparsity)
    kinds = {"dense" if len(weight.shape) == 2 else "conv" for weight in weights}
    chosen = [by_kind[kind] for kind in ("dense", "conv") if kind in kinds]
    return by_kind if len(set(chosen)) > 1 else next(iter(chosen), "weight")


def _choices(target, source, granularity, sparsity):
    """Yield what every weight will be, while the model is pruned as the config will prune it."""
    priors = [effective_number.sparsity_prior(weight.array) for weight in source.weights()]
    with variables.restored(source.model.weights), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*prunes whole units")  # the training says it
        _randomize_biases(source.model)
        one_shot.prune(source.model, sparsity, pruners.Magnitude(granularity, "layer"))
        weights = sources.KerasSource(source.model).weights()
    for weight, prior in zip(weights, priors, strict=True):
        own = granularities.get(granularity).for_shape(weight.shape)
        verdict = target.verdict(weight, patterns.detect(weight.array))
        chosen = str(own) if verdict.gains and not weight.is_frozen else "dense"
        why = FROZEN if weight.is_frozen else verdict.why
        yield Choice(weight.name, weight.shape, chosen, verdict.smaller, verdict.faster, why, prior)


def _randomize_biases(model):
    """Add small numbers to all biases, which are zero before training: an empty channel with a bias has an effect."""
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if len(variable.shape) == 1:
            variable.assign_add(random.uniform(0.01, 0.02, variable.shape).astype("float32"))


def _config(config, granularity, sparsity, rows):
    """Return the config with another section `prune`, and notes about other changes."""
    before = config.get("prune") or {}
    pruner, notes = before.get("pruner", "magnitude"), []
    pruner = {"name": pruner} if isinstance(pruner, str) else dict(pruner)
    if granularity != "weight" and getattr(pruners.get(pruner), "scope", "layer") == "global":
        if "scope" in pruner:
            notes.append("scope: layer instead of global, since what a layer gains goes by its own share of zeros")
        pruner["scope"] = "layer"
    section = {key: before[key] for key in ("schedule",) if key in before}
    section |= {"pruner": pruner | {"granularity": granularities.to_config(granularity)}, "sparsity": sparsity}
    section |= {
        key: True
        for key, row in (("skip_first", rows[0]), ("skip_last", rows[-1]))
        if row.granularity == "dense" or before.get(key)
    }
    pruners.get(section["pruner"])  # raises if the pruner does not take this granularity
    return {key: value for key, value in config.items() if key not in _OTHER_METHODS} | {"prune": section}, notes


def _pruned_in_vain(rows):
    """Yield a note about weights that gain nothing and that a config cannot leave dense."""
    between = [row.weight for row in rows[1:-1] if row.granularity == "dense"]
    if between:
        yield (
            f"a config cannot leave {', '.join(between)} dense, so they are pruned for nothing: "
            "in Python write Prune(..., exclude=[those layers])"
        )
