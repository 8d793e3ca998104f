"""Which models of keras.applications shrink, by how much, in what time, and are their outputs still the same?

Every model has random weights, BatchNormalization that is nobody's default, and small images. A quarter of the
channels of each group that may change is masked, then `tfsparse.shrink` finds them by itself; its outputs are compared
with the masked model's, relative to the largest. Each model runs in a process of its own. Writes the table of the
documentation. `--all` takes the large models too.

    python benchmarks/channels.py --out benchmarks/results/channels.json --page docs/shrinking.md
"""

import argparse
import collections
import inspect
import json
import pathlib
import time

import applications
import machine
import tables

EXAMPLES, SHARE = 16, 0.25
FIRST = (
    *("VGG16", "ResNet50", "ResNet50V2", "MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large"),
    *("EfficientNetB0", "EfficientNetV2B0", "DenseNet121", "InceptionV3", "InceptionResNetV2", "Xception"),
    *("ConvNeXtTiny", "NASNetMobile"),
)
# Larger sisters of the others: only with --all.
LARGE = (
    *("ResNet152", "ResNet152V2", "DenseNet201", "NASNetLarge", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"),
    *("EfficientNetB4", "EfficientNetB5", "EfficientNetB6", "EfficientNetB7", "EfficientNetV2M", "EfficientNetV2L"),
)
TITLES = (
    *("model", "input", "groups", "frozen", "channels free / all", "find, s", "shrink, s", "relative difference"),
    *("parameters, million", "MACs, million"),
)


def names(everything: bool) -> list[str]:
    """Models of the installed Keras: those asked for first, then the others, the large ones only when asked."""
    import keras

    others = [n for n, f in vars(keras.applications).items() if inspect.isfunction(f)]
    chosen = [*FIRST, *sorted(set(others) - set(FIRST) - set(LARGE))]
    return chosen + (list(LARGE) if everything else [])


def pictures(shape):
    """Random images that differ from each other in more than noise."""
    import numpy as np

    random = np.random.default_rng(0)
    indices = [np.arange(side) * 4 // side for side in shape[:2]]
    coarse = random.uniform(0, 255, (EXAMPLES, 4, 4, shape[-1]))[:, indices[0]][:, :, indices[1]]
    return (0.7 * coarse + 0.3 * random.uniform(0, 255, (EXAMPLES, *shape))).astype("float32")


def randomise(model, images) -> None:
    """Random scales, offsets and biases; then statistics that are those of the images give or take a half.

    Statistics drawn without looking make deep models deaf (one output for all) or chaotic (rounding errors decide).
    """
    import keras
    import numpy as np

    from tfsparse.backend import keras_internals

    random = np.random.default_rng(0)
    ranges = {"gamma": (0.7, 1.3), "beta": (-0.3, 0.3), "bias": (-0.1, 0.1)}
    for variable in (v for v in model.variables if v.name in ranges):
        variable.assign(random.uniform(*ranges[variable.name], variable.shape))
    for kernel in (v for v in model.variables if v.name == "kernel" and not _is_normalised(model)):
        kernel.assign(kernel * np.sqrt(2))  # He's variance instead of Glorot's: else biases are all that is left
    norms = [layer for layer in keras_internals.all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0  # the statistics become those of one batch
    model(images, training=True)
    for layer in norms:
        deviation = np.sqrt(layer.moving_variance)
        layer.moving_mean.assign_add(deviation * random.uniform(-0.3, 0.3, deviation.shape))
        layer.moving_variance.assign(layer.moving_variance * random.uniform(0.6, 1.5, deviation.shape))


def _is_normalised(model):
    return any("norm" in v.path for v in model.variables)


def three_quarters(graph) -> dict:
    """Random channels to keep, for each group that may change."""
    import numpy as np

    random = np.random.default_rng(0)
    keep = {}
    for group in graph.groups:
        if not group.frozen:
            order = random.permutation(len(group))
            keep[group.name] = np.sort(order[int(SHARE * len(group)) :])
    return keep


def build(name: str):
    """The model with random weights, ending in logits: a softmax would hide differences."""
    import keras

    keras.utils.set_random_seed(0)
    for side in applications.SIDES:
        try:
            settings = {"weights": None, "classes": applications.CLASSES, "classifier_activation": None}
            model = getattr(keras.applications, name)(input_shape=(side, side, 3), **settings)
        except ValueError as error:
            refusal = error
        else:
            return model
    raise refusal


def measure(name: str) -> dict:
    """Everything about one model."""
    import numpy as np

    from tfsparse import structured

    model = build(name)
    images = pictures(model.input_shape[1:])
    randomise(model, images)
    start = time.perf_counter()
    graph = structured.Channels(model)
    traced = time.perf_counter()
    keep = three_quarters(graph)
    structured.mask_channels(model, keep)
    masked = np.asarray(model(images, training=False))
    shrinking = time.perf_counter()
    smaller = structured.shrink(model)
    shrunk = time.perf_counter()
    difference = np.max(np.abs(np.asarray(smaller(images, training=False)) - masked))
    times = {"seconds_to_find": round(traced - start, 2), "seconds_to_shrink": round(shrunk - shrinking, 2)}
    return {
        "input": list(model.input_shape[1:]),
        **groups(graph),
        **times,
        "relative_difference": float(difference / np.max(np.abs(masked))),
        "spread_of_outputs": float(np.max(np.std(masked, axis=0)) / np.max(np.abs(masked))),
        **sizes(graph, graph.keep(keep), model, smaller),
    }


def groups(graph) -> dict:
    """How many groups and channels, how many of them free, and why the others are not."""
    frozen = [group for group in graph.groups if group.frozen]
    return {
        "groups": len(graph.groups),
        "frozen": len(frozen),
        "reasons": {group.name: group.frozen for group in frozen},
        "channels": sum(len(group) for group in graph.groups),
        "channels_free": sum(len(group) for group in graph.groups if not group.frozen),
    }


def sizes(graph, kept, model, smaller) -> dict:
    """All parameters before and after; trainable ones and multiply-adds: before, foretold for what was kept, after."""
    from tfsparse import structured

    return {
        "parameters": [model.count_params(), smaller.count_params()],
        "trainable": [graph.parameters(), graph.parameters(kept), structured.Channels(smaller).parameters()],
        "macs": [graph.macs(), graph.macs(kept), structured.Channels(smaller).macs()],
    }


def in_short(reasons) -> str:
    """Sentences as kinds and how often: `4 LayerNormalization, 1 output of the model`."""
    kinds = collections.Counter(r.split(" '")[0].removeprefix("it is an ") for r in reasons)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def line(name: str, row: dict) -> list[str]:
    """One row of the table."""
    if "error" in row:
        return [name, row["error"], *[""] * (len(TITLES) - 2)]
    parameters, macs = (f"{row[k][0] / 1e6:.2f} → {row[k][-1] / 1e6:.2f}" for k in ("parameters", "macs"))
    return [
        name,
        "x".join(map(str, row["input"])),
        str(row["groups"]),
        f"{row['frozen']}: {in_short(row['reasons'].values())}",
        f"{row['channels_free']:,} / {row['channels']:,}",
        f"{row['seconds_to_find']:.1f}",
        f"{row['seconds_to_shrink']:.1f}",
        f"{row['relative_difference']:.1e}",
        parameters,
        macs,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="where to write the JSON")
    parser.add_argument("--page", help="page of the documentation to put the table into")
    parser.add_argument("--models", nargs="+", help="these models only; others in the JSON stay as they are")
    parser.add_argument("--all", action="store_true", help="the large ones too, which take several minutes each")
    parser.add_argument("--limit", type=int, default=900, help="seconds for one model")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        machine.write(options.out, machine.result_or_error(measure, options.models[0]))
        return
    known = json.loads(options.out.read_text(encoding="utf-8"))["rows"] if options.out.exists() else {}
    about = {"examples": EXAMPLES, "share": SHARE, "versions": machine.versions("keras", "tensorflow")}
    for name in options.models or names(options.all):
        known[name] = machine.in_process(__file__, ["--worker", "--models", name], options.limit)
        print(*line(name, known[name]), sep=" | ", flush=True)
        machine.write(options.out, about | {"machine": machine.describe(), "rows": known})
    if options.page:
        rows = [line(name, known[name]) for name in names(everything=True) if name in known]
        tables.write(options.page, "applications", tables.markdown(TITLES, rows))


if __name__ == "__main__":
    main()
