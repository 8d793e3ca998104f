"""The parts of a page, made from the record of a run and from a model. A part that was not measured is left out."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import keras
import yaml
from markupsafe import Markup

from tfsparse import methods
from tfsparse.export.sizes import sizes
from tfsparse.optimizers import compiled_model, masked_layer
from tfsparse.reporting.page import drawing
from tfsparse.structured import constant_channels
from tfsparse.structured.channels import Channels


@dataclasses.dataclass(frozen=True)
class Chart:
    """A picture with a line for each of some keys of the epochs' entries.

    Attributes:
        title: Title of the picture.
        lines: `{key: label}`. A key whose values are dicts gives one line per name in them.
        note: What is drawn, in one sentence.
    """

    title: str
    lines: dict[str, str]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        head: Titles of the columns.
        rows: Cells of each row.
        totals: Rows below the table.
        words: Indices of the columns that hold no numbers; they are aligned to the left.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    totals: Sequence[Sequence[str]] = ()
    words: Sequence[int] = (0,)


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the page.

    Attributes:
        title: Its heading.
        note: A sentence below the heading.
        figures: Pairs of a chart and its SVG.
        table: A table.
        text: Preformatted text.
        folded: Whether the reader has to open the part to see it.
    """

    title: str
    note: str = ""
    figures: Sequence[tuple[Chart, Markup]] = ()
    table: Table | None = None
    text: str = ""
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Tile:
    """A figure at the top of the page.

    Attributes:
        name: What it is.
        value: The figure.
        note: What it is beside, such as the figure of the dense network.
    """

    name: str
    value: str
    note: str = ""


CHARTS = (
    Chart("Accuracy", {"val_accuracy": "validation", "accuracy": "training", "drop_limit": "limit of the search"}),
    Chart("Loss", {"val_loss": "validation", "loss": "training"}),
    Chart("Sparsity", {"sparsity": "zeros"}, "Zeros over entries of the pruned weights."),
    Chart(
        "Mask change rate",
        {"mask_change_rate": "mask_change_rate"},
        "Share of mask entries that changed since the end of the epoch before.",
    ),
    Chart("Density", {"density": "density"}, "Share of activations that are not zero."),
    Chart("Density of each group", {"densities": ""}, "Share of activations that are not zero."),
    Chart("Widths", {"widths": ""}, "Channels of each group of layers."),
    Chart("Multiply-adds", {"macs": "multiply-adds"}, "Per example, at the present widths."),
    Chart("Parameters", {"parameters": "parameters"}, "At the present widths."),
    Chart(
        "Computation",
        {"mean_macs_share": "mean over the epoch", "macs_share": "at its end"},
        "Multiply-adds that are not by zero, divided by those of the dense network.",
    ),
    Chart(
        "Curvature",
        {"curvature": "curvature"},
        "The last measurement of the Hessian: its largest eigenvalue until pruning starts, then its trace divided by "
        "the number of living weights.",
    ),
    Chart("Alpha", {"alpha": "alpha"}, "Weight of the penalty that pushes the thresholds up."),
    Chart("Bytes between replicas", {"mask_bytes": "bytes"}, "Sent by each replica so far, to compare the masks."),
)

_IN_TILES = ("accuracy", "sparsity", "asked_sparsity", "parameters", "dense_parameters")  # of the summary


def tiles(
    run: dict | None,
    report: dict | None,
    sizes_: Part | None = None,
    milliseconds: Sequence[tuple[str, float, float]] = (),
    dense_accuracy: float | None = None,
) -> Iterator[Tile]:
    """Yield what a user asks first: accuracy, sparsity, bytes and milliseconds. Each has the dense figure, if known.

    Args:
        run: The record of a run.
        report: `Report.as_dict()` of the model.
        sizes_: The part with the sizes of the model.
        milliseconds: How long each form takes for one example: its name, dense and sparse.
        dense_accuracy: That of the same training without pruning.
    """
    summary = (run or {}).get("summary") or {}
    if summary:
        note = "" if dense_accuracy is None else f"dense {dense_accuracy:.4f}"
        yield Tile("accuracy", f"{summary['accuracy']:.4f}", note)
    if report:
        asked = summary.get("asked_sparsity")
        yield Tile("sparsity", f"{report['sparsity']:.4f}", "" if asked is None else f"asked {asked:g}")
    if "parameters" in summary:  # of a network that shrank
        yield _beside_dense("parameters", summary.get("dense_parameters"), summary["parameters"])
    if report:
        yield _beside_dense("nonzero parameters", report["parameters"], report["nonzero_parameters"])
        yield _beside_dense("effective FLOPs", report["flops"], report["effective_flops"])
    of_form = {form: size for form, size, *_ in sizes_.table.rows} if sizes_ and sizes_.table else {}
    for kind in ("SavedModel", "TFLite"):
        sizes_of_kind = [of_form.get(f"{kind}, {form}", "–").replace(",", "") for form in ("dense", "float32")]
        if "–" not in sizes_of_kind:
            yield _beside_dense(f"{kind}, bytes", *map(int, sizes_of_kind))
    for name, dense, sparse in milliseconds:
        yield _beside_dense(f"{name}, ms per example", dense, sparse)


def _beside_dense(name, dense, sparse):
    ratio = f", ratio {dense / sparse:.2f}" if sparse and dense is not None else ""
    return Tile(name, _text(sparse), f"dense {_text(dense)}{ratio}")


def of_run(run: dict) -> Iterator[Part]:
    """Yield the parts that are made from the record of a run."""
    if run.get("summary"):
        yield Part("Summary", table=_pairs(run["summary"], but=_IN_TILES))
    entries = [entry | seconds for entry, seconds in zip(run["epochs"], _seconds(run), strict=True)]
    if entries:
        yield Part("Over the epochs", figures=[(chart, _drawn(chart, entries)) for chart in _charts(entries)])
        yield from _cut(entries[-1], _once(entries))
        yield from _search(entries)
        yield Part("Every epoch", table=_every_epoch(entries), folded=True)
    yield from _frontier(run)
    yield Part("Config", text=yaml.safe_dump(run["config"], sort_keys=False), folded=True)
    if "environment" in run:
        environment = run["environment"]
        yield Part("Environment", table=_pairs(environment["versions"] | environment, but=("versions",)), folded=True)


def of_report(report: dict) -> Iterator[Part]:
    """Yield one part, the table of a model's weights, from `Report.as_dict()`."""
    head = ("weight", "shape", "target", "actual", "kept", "of", "FLOPs", "effective FLOPs")
    rows = [
        (r["weight"], "×".join(map(str, r["shape"])), _text(r["target"]), _text(r["sparsity"]), *_costs(r))
        for r in report["rows"]
    ]
    share = 1 - report["kept"] / report["size"] if report["size"] else 0.0
    totals = [("all kernels", "", "", _text(share), *_costs(report))]
    note = f"{report['nonzero_parameters']:,} of {report['parameters']:,} parameters are not zero."
    if report.get("sync_stats"):
        times, sent = (f"{report['sync_stats'][key]:,}" for key in ("num_syncs", "bytes"))
        note += f" Replicas compared their masks {times} times; each sent {sent} bytes."
    note += f" {report['unfinished']}" if report.get("unfinished") else ""
    yield Part("Layers", note, table=Table(head, rows, totals))
    without_zeros = [r for r in report["rows"] if not r["sparsity"]]
    dense = [r | {"because": r["dense_because"]} for r in without_zeros if r.get("dense_because")]
    dense += report.get("dense") or []
    if dense:
        rows = [(d["weight"], "×".join(map(str, d["shape"])), _text(d["size"]), d["because"]) for d in dense]
        table = Table(("weight", "shape", "entries", "because"), rows, words=(0, 3))
        yield Part("Dense weights", "Of rank 2 or more, without a mask.", table=table, folded=True)


def of_model(model: keras.Model) -> Iterator[Part]:
    """Yield the channels without effect of a model, then its sizes."""
    plain = masked_layer.plain_model(model) if masked_layer.masked_layers(model) else model
    yield _measured("Channels without effect", _channels_without_effect, plain)
    yield _measured("Sizes", _sizes, model)


def of_methods(model: keras.Model) -> Iterator[Part]:
    """Yield the steps at which a method took its decisions, for methods that have a function `milestones`."""
    extra_state = getattr(compiled_model.sparse_optimizer(model), "extra_state", {})
    for name, method in methods.modules_in("tfsparse.methods").items():
        steps = method.milestones(extra_state) if hasattr(method, "milestones") else {}
        if steps:
            rows = [(event, f"{step:,.0f}" if step >= 0 else "not yet") for event, step in steps.items()]
            yield Part(name.upper(), "Optimizer steps.", table=Table(("", "step"), rows))


def _measured(title, make, model):
    """Return `make(title, model)`, or a part that says why it cannot be measured."""
    try:
        return make(title, model)
    except ValueError as error:
        return Part(title, f"Not measured. {error}")


def _channels_without_effect(title, model):
    graph = Channels(model)
    kept = constant_channels.needed(graph)
    rows = [(g.name, f"{len(g):,}", f"{int((~kept[g.channels]).sum()):,}", g.frozen or "") for g in graph.groups]
    note = "These channels change no output: tfsparse.shrink(model) removes them."
    head = ("made by", "channels", "without effect", "must stay because")
    return Part(title, note, table=Table(head, rows, words=(0, 3)))


def _sizes(title, model):
    measured = sizes(model).rows
    times = [f"{measured[0].bytes / r.bytes:.1f}" if r.bytes else "–" for r in measured]
    rows = [(r.form, _text(r.bytes), t, _text(r.sparse_bytes), r.needs) for r, t in zip(measured, times, strict=True)]
    note = "Measured when this page was made. In memory all weights are dense, except those that TFLite runs sparse."
    head = ("form", "bytes", "times smaller", "sparse weights alone", "to run")
    return Part(title, note, table=Table(head, rows, words=(0, 4)))


# ----------------------------------------------------------------------------------------------------------- the epochs


def _seconds(run):
    """Return the time of each epoch. A network that shrinks has one time for all of them, which is left out here."""
    each = len(run["seconds"]) == len(run["epochs"])
    return [{"seconds": seconds} for seconds in run["seconds"]] if each else [{}] * len(run["epochs"])


def _once(entries):
    """Return the keys that only the last entry has: what was measured just before and just after a cut."""
    before = {key for entry in entries[:-1] for key in entry}
    return [key for key in entries[-1] if entries[:-1] and key not in before]


def _charts(entries):
    """Return the charts of `CHARTS` for which there are entries, and one for each other key."""
    keys = [key for key in entries[-1] if key not in ("epoch", "at_target", "level_holds", *_once(entries))]
    known = {key for chart in CHARTS for key in chart.lines}
    present = [dataclasses.replace(c, lines={k: v for k, v in c.lines.items() if k in keys}) for c in CHARTS]
    return [c for c in present if c.lines] + [
        Chart(key.replace("_", " ").capitalize(), {key: key}) for key in keys if key not in known
    ]


def _drawn(chart, entries):
    lines = {}
    for key, label in chart.lines.items():
        if isinstance(entries[-1][key], dict):
            names = entries[-1][key]
            lines |= {name: [entry.get(key, {}).get(name, math.nan) for entry in entries] for name in names}
        else:
            lines[label] = [entry.get(key, math.nan) for entry in entries]
    return drawing.svg(drawing.curves([entry["epoch"] for entry in entries], lines), chart.title)


def _cut(last, keys):
    if keys:
        table = Table(("", f"epoch {last['epoch']}"), [(key, _text(last[key])) for key in keys])
        yield Part("Before and after the cut", "Measured once, after the last step.", table=table)


def _search(entries):
    decisions = [entry for entry in entries if "level_holds" in entry]
    if decisions:
        rows = [
            (*(_text(d.get(key)) for key in ("epoch", "sparsity", "val_accuracy", "drop_limit")), _holds(d))
            for d in decisions
        ]
        head = ("epoch", "sparsity", "validation", "limit", "")
        note = "A level holds if validation is at least the limit: that of the best epoch until then, less the drop."
        yield Part("Search for the sparsity", note, table=Table(head, rows, words=(4,)))


def _holds(decision):
    return "holds" if decision["level_holds"] else "misses"


def _frontier(run):
    """Yield the frontier, if one was measured of the model as it is now."""
    measured = run.get("frontier")
    if measured is None or measured["sha256"] != run["checkpoints"][-1]["sha256"]:
        return
    rows, metric = measured["rows"], measured["metric"]
    chart = Chart(f"{metric} against sparsity", {}, f"On {measured['num_examples']:,} examples.")
    figure = drawing.frontier([row["sparsity"] for row in rows], [row["value"] for row in rows], metric)
    head = ("sparsity", metric, "95 % interval", "multiply-adds", "SavedModel, bytes", "bytes", "ms")
    note = f"Bytes and ms: {measured['target']}, of one example; ms: median (least to most)."
    if not measured["is_nested"]:
        note += " Only the sparsity of this run was trained: the others are cuts of it."
    yield Part(
        "Frontier",
        note,
        [(chart, drawing.svg(figure, chart.title))],
        Table(head, [_frontier_row(row) for row in rows], words=()),
    )


def _frontier_row(row):
    interval = "–" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
    ms = row["milliseconds"]
    times = "–" if ms is None else "{:.3g} ({:.3g} to {:.3g})".format(*(ms[key] for key in ("median", "min", "max")))
    counts = (_text(row[key]) for key in ("macs", "saved_model_bytes", "bytes"))
    return (f"{row['sparsity']:g}", f"{row['value']:.4f}", interval, *counts, times)


def _every_epoch(entries):
    keys = [key for key in entries[-1] if not isinstance(entries[-1][key], dict)]
    return Table(keys, [[_text(entry.get(key)) for key in keys] for entry in entries])


# ----------------------------------------------------------------------------------------------------------------- text


def _pairs(values, but=()):
    rows = [(key.replace("_", " "), _text(value)) for key, value in values.items() if key not in but]
    return Table(("", ""), rows, words=(0, 1))


def _costs(counts):
    return tuple(_text(counts[key]) for key in ("kept", "size", "flops", "effective_flops"))


def _text(value):
    """Return the text of a cell: fractions with four digits, counts in full, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 10 or value == 0 else f"{value:,.4g}"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
