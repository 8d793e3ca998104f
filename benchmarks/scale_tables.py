"""The tables of `scale.py`, which it prints and `speed_page.py` writes into docs/speed.md."""

import step_overhead

SCOPES = ("layer", "global")
XLA = ("resnet_20",)  # its first step is measured with XLA, those of all other models without


def _memory_table(measured, parts):
    titles = ["million weights", "training", "masks", "optimizer beyond dense", "peak, MB", "peak beyond dense"]
    titles += ["first step", "step without an update", "step with one"]
    rows = []
    for (millions, variant), m in measured.items():
        if dense := measured.get((millions, "dense")):
            extra = [m["mask_bytes"], *(m[k] - dense[k] for k in ("optimizer_bytes", "peak_bytes"))]
            masks, kept, peak = (f"{n / dense['weight_bytes']:.2f}" for n in extra)
            step = dense["step_without_update"]
            times = [_ratio(m["first_step"], dense["first_step"])]
            times += [_ratio(m[key], step) for key in ("step_without_update", "step_with_update")]
            rows.append([f"{millions:g}", variant, masks, kept, f"{m['peak_bytes'] / 1e6:,.0f}", peak, *times])
    return titles, rows


def _operations_table(measured, parts):
    titles = ["million weights", "operation", "seconds", "dense steps", "peak beyond the model"]
    rows = []
    for (millions, operation), m in measured.items():
        if dense := parts.get("memory", {}).get((millions, "dense")):
            steps, peak = m["seconds"] / dense["step_without_update"], m["peak_bytes"] / dense["weight_bytes"]
            rows.append([f"{millions:g}", operation, f"{m['seconds']:.2f}", f"{steps:.1f}", f"{peak:.2f}"])
    return titles, rows


def _first_steps_table(measured, parts):
    rows = []
    for name in dict.fromkeys(name for name, _ in measured):
        dense, *sparse = (measured.get((name, scope), {}).get("seconds") for scope in (None, *SCOPES))
        if dense:
            compiled = "with XLA" if name in XLA else "without XLA"
            rows.append([name, compiled, f"{dense:.1f}", *(_ratio(seconds, dense) for seconds in sparse)])
    return ["model", "compiled", "dense, seconds", *SCOPES], rows


def _programs_table(measured, parts):
    rows = []
    for (backend, name), counts in measured.items():
        dense = counts["dense"]
        for program, m in counts.items():
            ratios = [_ratio(m[key], dense[key], 3) for key in ("bytes", "flops")]
            rows.append([name, backend, program, f"{m['bytes'] / 1e6:,.0f}", ratios[0], ratios[1]])
    return ["model", "backend", "step", "MB", "bytes, × dense", "FLOPs, × dense"], rows


def _steps_table(measured, parts):
    titles, rows = ["model", "framework", "clock", "dense, ms", "every step", "default"], []
    for (name, framework), m in measured.items():
        for clock in step_overhead.CLOCKS:
            dense = 1e3 * m[clock]["seconds_per_step"]["dense"]["median"]
            ratios = [step_overhead.ratio(m[clock]["ratio_to_dense"][key]) for key in ("every step", "default")]
            rows.append([name, step_overhead.FRAMEWORKS[framework], clock, f"{dense:.1f}", *ratios])
    return titles, rows


def _ratio(value: float | None, dense: float, digits: int = 2) -> str:
    return "" if value is None else f"{value / dense:.{digits}f}"


TABLES = {
    "memory": _memory_table,
    "operations": _operations_table,
    "first_steps": _first_steps_table,
    "programs": _programs_table,
    "steps": _steps_table,
}


def tables(results: dict) -> dict[str, tuple[list[str], list[list[str]]]]:
    """`{part: (titles, rows)}` of the parts that are there. What failed has no row."""
    parts = {}
    for row in results["measurements"]:
        if "error" not in row["result"]:
            parts.setdefault(row["part"], {})[tuple(row["arguments"])] = row["result"]
    return {part: TABLES[part](measured, parts) for part, measured in parts.items()}
