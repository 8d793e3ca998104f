"""Writes docs/speed.md from the JSON of the benchmarks that it names.

    python benchmarks/step_overhead.py --rounds 3 --frameworks keras3 tfmot --out benchmarks/results/step_overhead.json
    python benchmarks/threshold.py --rounds 3 --out benchmarks/results/threshold.json
    python benchmarks/tfmot_side_by_side.py --rounds 5 --out benchmarks/results/tfmot_side_by_side.json
    python benchmarks/mask_sync.py --rounds 7 --out benchmarks/results/mask_sync.json
    python benchmarks/scale.py --sizes 10 30 73 150 300 --models resnet_20 MobileNetV2 ResNet50 NASNetMobile \\
        --rounds 5 --out benchmarks/results/scale.json
    python benchmarks/speed_page.py
"""

import json
import pathlib

import scale_tables
import tables

HERE = pathlib.Path(__file__).parent
NAMES = {"keras3": "tfsparse, no XLA", "keras3-xla": "tfsparse, XLA", "tfmot": "TFMOT 0.8.1 on tf_keras"}
MODELS = {"mlp": "MLP 784-2048-2048-10", "resnet_20": "ResNet-20, 32x32x3"}

PAGE = """# Speed

All figures are ratios or times that were measured in one run on CPU ({cpu}, {cores} cores).
`benchmarks/speed_page.py` writes this page.

## The training step

A whole `fit` step with batch 128 and SGD momentum 0.9 in the middle of a 10,000-step run to 90 % zeros in every layer
(`scope="layer"`), as a multiple of the same framework's dense step in the same round: median (minimum to maximum) of
{rounds} rounds.

- "Every step": the masks are updated at every step.
- "Default": the masks are updated as often as each framework does by default. In this run that is every 10th step for
  tfsparse and every 100th for TFMOT.

Other programs disturb the wall clock, and processor time less. Load average at the start: {load} (1 or less is an idle
machine).

{steps}

ResNet-20 has 0.27 million weights, so its masks cost almost nothing. Its rounds differ because other programs ran on
the machine, and a ratio below 1 is this noise. XLA is not measured here (Keras uses it on CPU only on request).

`python benchmarks/step_overhead.py --rounds 3 --frameworks keras3 tfmot --out benchmarks/results/step_overhead.json`

## On tf_keras, beside TFMOT

The same models, wrapped by TFMOT's `prune_low_magnitude` and by `tfsparse.tfmot.prune_low_magnitude`, with the same
PolynomialDecay, in one process. The first table has the step as a multiple of the dense step (wall clock, median of
{side_rounds} rounds) and the time of one update of all masks. The second has the bytes that a replica reduces in one
step under a MirroredStrategy of two logical CPUs. Load average at the start: {side_load}.

{side_steps}

{side_bytes}

`python benchmarks/tfmot_side_by_side.py --rounds 5 --out benchmarks/results/tfmot_side_by_side.json`

## Equal masks on several devices

ResNet-50's kernels, {sync_entries:,} entries in {sync_masks} masks, on a MirroredStrategy of two logical CPUs: the
bytes that a replica sends and the time this takes, once per mask update. TFMOT's wrapper averages all masked weights
over the replicas in every step. The last two columns assume an update every {sync_period} steps. Our pruners compute
equal masks from equal inputs, so they send only the digest; push and pull is for masks that replicas propose. Load
average at the start: {sync_load}. Logical CPUs share one memory; between machines bytes cost more than here.

{sync}

`python benchmarks/mask_sync.py --rounds 7 --out benchmarks/results/mask_sync.json`

## The threshold

Time for the mask of one tensor at 90 %, in milliseconds, median. Measured are `topk_mask` (exact count, in a TensorFlow
graph, without and with XLA), `np.partition`, and a full sort by `top_k`, which TFMOT's wrapper uses (not run beyond 25
million entries: it takes minutes). The two others keep all ties, so their counts can be wrong.

{thresholds}

`python benchmarks/threshold.py --rounds 3 --out benchmarks/results/threshold.json`
{scale}
## On a GPU

`python benchmarks/gpu.py` measures steps, updates, memory and a short training of ResNet-18 on JAX and on TensorFlow,
whichever sees a GPU, and prints one table within ten minutes. It has not run on a GPU yet; the tests run it on CPU at a
tiny size.
"""

SCALE = """
## Large models

Fully connected networks with four square kernels (a quarter of the weights each) and a small one, trained by SGD with
momentum for 30 steps with batch 32, on TensorFlow without XLA; each training in a process of its own. Memory is a
multiple of the float32 weights: the masks, what the optimizer keeps beyond the dense one, and the peak of the process
beyond that of the dense training. Times are multiples of the dense first step, in which the step is compiled, and of
the dense step after it. "Default": an update in every 10th step, as by default in a run of 10,000 steps. Load average
at the start: {load}.

{memory}

One call on the same networks: seconds, how many dense training steps that is, and the peak of memory beyond the model
that is there before, as a multiple of the float32 weights. `report` and `export` get a model with 90 % zeros and masks.
"export of Keras" is `model.export` of the dense model.

{operations}

The first step of a training, from the call of `fit` on, as a multiple of the dense one: the least of {rounds} rounds,
each in a process of its own. Applications have images of 96x96 pixels.

{first_steps}

Bytes that the compiled step accesses and FLOPs, as XLA counts them, with batch 128. What else runs on the machine does
not change them. XLA counts the body of a loop once, however often it runs.

{programs}

The training step as in the first table of this page, on TensorFlow without XLA and on JAX.

The ratios on JAX are too high, mostly those of the default: the clock of each ten steps stopped before JAX had
computed them. The benchmark waits for the last step now; it was not run again.

{steps}

`python benchmarks/scale.py --sizes {sizes} --models {models} --rounds {rounds} --out benchmarks/results/scale.json`
"""


def spread(values: dict) -> str:
    """Median and range."""
    return f"{values['median']:.2f} ({values['min']:.2f} to {values['max']:.2f})"


def step_table(results: dict) -> str:
    """One row per framework, model and clock."""
    head = ["model", "framework", "clock", "dense, ms", "every step", "default"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for m in results["measurements"]:
        for clock in ("wall", "processor"):
            dense = 1e3 * m[clock]["seconds_per_step"]["dense"]["median"]
            ratios = [spread(m[clock]["ratio_to_dense"][k]) for k in ("every step", "default")]
            cells = [MODELS[m["model"]], NAMES[m["framework"]], clock, f"{dense:.1f}", *ratios]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def threshold_table(results: dict) -> str:
    """One row per size."""
    sizes = sorted({row["size"] for row in results["rows"]})
    ways = list(dict.fromkeys(row["method"] for row in results["rows"]))
    median = {(r["method"], r["size"]): f"{r['milliseconds']['median']:,.1f}" for r in results["rows"]}
    lines = ["| entries | " + " | ".join(ways) + " |", "|---" * (len(ways) + 1) + "|"]
    for size in sizes:
        lines.append(f"| {size:,} | " + " | ".join(median.get((way, size), "not run") for way in ways) + " |")
    return "\n".join(lines)


def beside_tables(results: dict) -> tuple[str, str]:
    """Steps and updates, and bytes; one row per model."""
    variants = [f"{who}, {when}" for when in ("every step", "every 100th") for who in ("TFMOT", "ours")]
    heads = ["model", "dense, ms", *variants, "update, ms: TFMOT", "ours"]
    steps = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    bytes_ = ["| model | dense | TFMOT | ours | ours beyond dense |", "|---" * 5 + "|"]
    for name, r in results["models"].items():
        wall, update, b = r["step"]["wall"], r["update"], r["bytes"]
        cells = [MODELS[name], f"{1e3 * wall['seconds_per_step']['dense']['median']:.1f}"]
        cells += [spread(wall["ratio_to_dense"][v]) for v in variants]
        cells += [f"{1e3 * update[who]['median']:.1f}" for who in ("TFMOT", "ours")]
        steps.append("| " + " | ".join(cells) + " |")
        sizes = (b["dense"], b["TFMOT"], b["ours"], b["ours"] - b["dense"])
        bytes_.append(f"| {MODELS[name]} | " + " | ".join(f"{n:,}" for n in sizes) + " |")
    return "\n".join(steps), "\n".join(bytes_)


def sync_table(results: dict) -> str:
    """One row per way to keep masks equal."""
    head = ["", "bytes", "ms", "times fewer bytes than TFMOT", "times less time"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, way in results["ways"].items():
        ratios = [f"{way['times_fewer_bytes']:,.0f}", spread(way["times_less_time"])]
        cells = [name, f"{way['bytes']:,}", spread({k: 1e3 * v for k, v in way["seconds"].items() if k != "all"})]
        lines.append("| " + " | ".join([*cells, *(["", ""] if name.startswith("TFMOT") else ratios)]) + " |")
    return "\n".join(lines)


def scale_section(results: dict) -> str:
    """The section of `scale.py`."""
    parts = {part: tables.markdown(*table) for part, table in scale_tables.tables(results).items()}
    return SCALE.format(
        load=results["machine"]["load_average"][0],
        rounds=results["rounds"],
        sizes=" ".join(f"{size:g}" for size in results["sizes"]),
        models=" ".join(results["models"]),
        **parts,
    )


def page() -> str:
    """The whole page."""
    side, overhead, threshold, sync = map(read, ("tfmot_side_by_side", "step_overhead", "threshold", "mask_sync"))
    side_steps, side_bytes = beside_tables(side)
    return PAGE.format(
        sync_entries=sync["entries"],
        sync_masks=sync["masks"],
        sync_period=sync["period"],
        sync_load=sync["machine"]["load_average"][0],
        sync=sync_table(sync),
        cpu=overhead["machine"]["cpu"],
        cores=overhead["machine"]["cores"],
        rounds=overhead["rounds"],
        load=overhead["machine"]["load_average"][0],
        steps=step_table(overhead),
        side_rounds=side["rounds"],
        side_load=side["machine"]["load_average"][0],
        side_steps=side_steps,
        side_bytes=side_bytes,
        thresholds=threshold_table(threshold),
        scale=scale_section(read("scale")) if (HERE / "results" / "scale.json").exists() else "",
    )


def read(name: str) -> dict:
    """Results on disk."""
    return json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    (HERE.parent / "docs" / "speed.md").write_text(page(), encoding="utf-8")
