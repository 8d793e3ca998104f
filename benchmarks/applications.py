"""Does one model of every family in keras.applications prune to 80 % through one callback, and does it on TFMOT?

Each model is built with random weights and small inputs and trained for a few steps with `tfsparse.Prune`; then the
zeros of its pruned kernels are counted. TFMOT gets the same model from tf_keras: wrapped, then trained for one step.
Each side runs in a process of its own. Writes the compatibility table of the documentation from what it measured.

    python benchmarks/applications.py --out benchmarks/results/applications.json --page docs/compatibility.md
"""

import argparse
import inspect
import os
import pathlib
import re
import time

import machine

SPARSITY, CLASSES, EXAMPLES, STEPS = 0.8, 10, 4, 3
SIDES = (32, 48, 64, 75, 96)  # the smallest that the model takes
NO_FAMILY = ("imagenet_utils", "resnet50")  # helpers, and an older name of resnet
# Where a family's first model is not its smallest.
SMALLEST = {
    "convnext": "ConvNeXtTiny",
    "mobilenet_v3": "MobileNetV3Small",
    "nasnet": "NASNetMobile",
    "resnet": "ResNet50",
    "resnet_v2": "ResNet50V2",
}


def families() -> dict[str, str]:
    """The families of the installed Keras, which are its modules, and the smallest model of each."""
    import keras

    modules = {name: m for name, m in sorted(vars(keras.applications).items()) if inspect.ismodule(m)}
    models = {name: [f for f in sorted(vars(m)) if f[0].isupper()] for name, m in modules.items()}
    return {name: SMALLEST.get(name) or models[name][0] for name in modules if name not in NO_FAMILY}


def build(keras, name: str):
    """The model with random weights, `CLASSES` classes and the first of `SIDES` that it does not refuse."""
    for side in SIDES:
        try:
            return getattr(keras.applications, name)(weights=None, classes=CLASSES, input_shape=(side, side, 3))
        except ValueError as error:
            refusal = error
    raise refusal


def data(model):
    """Random images and labels, the same for both sides."""
    import numpy as np

    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (EXAMPLES, *model.input_shape[1:])).astype("float32")
    return images, random.integers(0, CLASSES, EXAMPLES)


def with_tfsparse(name: str) -> dict:
    """Prune in a tiny fit and compare the zeros of all kernels with what was asked."""
    import keras
    import numpy as np

    import tfsparse

    keras.utils.set_random_seed(0)
    model = build(keras, name)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), loss=loss)
    start = time.perf_counter()
    images, labels = data(model)
    prune = tfsparse.Prune("one_cycle", SPARSITY)
    model.fit(images, labels, batch_size=EXAMPLES, epochs=STEPS, verbose=0, callbacks=[prune])
    seconds = time.perf_counter() - start
    kernels = [v.numpy() for v in model.optimizer.pruned_variables]
    zeros = [int(np.sum(k == 0)) for k in kernels]
    entries = sum(k.size for k in kernels)
    return {
        "input": list(model.input_shape[1:]),
        "parameters": model.count_params(),
        "pruned_kernels": len(kernels),
        "zeros_too_many": sum(zeros) - round(SPARSITY * entries),
        "emptied_kernels": sum(z == k.size for z, k in zip(zeros, kernels, strict=True)),
        "sparsity": sum(zeros) / entries,
        "seconds": round(seconds, 1),
        "versions": machine.versions("keras", "tensorflow"),
    }


def with_tfmot(name: str) -> dict:
    """Wrap the whole model as TFMOT's guide says and train it for one step."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow_model_optimization as tfmot
    import tf_keras

    model = build(tf_keras, name)
    start = time.perf_counter()
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, SPARSITY, 0, STEPS, frequency=1)
    pruned = tfmot.sparsity.keras.prune_low_magnitude(model, schedule)
    pruned.compile(tf_keras.optimizers.SGD(1e-3, momentum=0.9), loss="sparse_categorical_crossentropy")
    update = tfmot.sparsity.keras.UpdatePruningStep()
    pruned.fit(*data(model), batch_size=EXAMPLES, epochs=1, verbose=0, callbacks=[update])
    seconds = round(time.perf_counter() - start, 1)
    return {"seconds": seconds, "versions": machine.versions("tf_keras", "tensorflow-model-optimization")}


SIDES_OF_THE_TABLE = {"tfsparse": with_tfsparse, "tfmot": with_tfmot}


def page(rows: list[dict], versions: dict) -> str:
    """The documentation's page."""
    lines = [
        "| family | model | input | parameters | pruned kernels | sparsity | count exact | seconds | TFMOT |",
        "|---|---|---|---:|---:|---:|---|---:|---|",
        *map(_line, rows),
    ]
    done = sum(_exact(row) for row in rows)
    refused = sum("error" in row["tfmot"] for row in rows)
    used = ", ".join(f"{name} {version}" for name, version in versions.items())
    return _PAGE.format(
        sparsity=SPARSITY,
        total=len(rows),
        done=done,
        refused=refused,
        steps=STEPS,
        examples=EXAMPLES,
        table="\n".join(lines),
        versions=used,
    )


_PAGE = """# Compatibility with keras.applications

The smallest model of every family in `keras.applications`, with random weights and small images, is trained on CPU
for {steps} steps on {examples} random examples with `tfsparse.Prune("one_cycle", {sparsity:g})`, which has one
threshold for all layers. Then the zeros of the pruned kernels are counted. {done} of {total} models have exactly
`round({sparsity:g} * size)` zeros, where `size` counts the entries of all pruned kernels, and no kernel is empty. TFMOT
gets the same model from tf_keras, wraps it by `prune_low_magnitude(model, ...)` and trains it for one step. It fails
on {refused}.

{table}

The seconds include compiling the training step and the {steps} steps. This page is written by
`python benchmarks/applications.py --out benchmarks/results/applications.json --page docs/compatibility.md`.
Versions: {versions}.
"""


def _line(row: dict) -> str:
    ours, theirs = row["tfsparse"], row["tfmot"]
    tfmot = _shortened(theirs.get("error", "works")).replace("|", "\\|").replace("<", "&lt;")
    if "error" in ours:
        return f"| {row['family']} | {row['model']} | | | | | {ours['error']} | | {tfmot} |"
    shape = "x".join(map(str, ours["input"]))
    exact = "yes" if _exact(row) else f"no: {ours['zeros_too_many']} too many, {ours['emptied_kernels']} empty"
    numbers = (
        f"{ours['parameters']:,} | {ours['pruned_kernels']} | {ours['sparsity']:.5f} | {exact} | {ours['seconds']}"
    )
    return f"| {row['family']} | {row['model']} | {shape} | {numbers} | {tfmot} |"


def _shortened(text: str, half: int = 70) -> str:
    """Both ends: errors begin with what is wrong and end with what was passed. Of a class the name, without modules."""
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    if len(text) <= 2 * half:
        return text
    return f"{text[:half].rsplit(' ', 1)[0]} ... {text[-half:].split(' ', 1)[1]}"


def _exact(row: dict) -> bool:
    return row["tfsparse"].get("zeros_too_many") == 0 == row["tfsparse"].get("emptied_kernels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="where to write the JSON")
    parser.add_argument("--page", type=pathlib.Path, help="where to write the page of the documentation")
    parser.add_argument("--models", nargs="+", help="these models only")
    parser.add_argument("--limit", type=int, default=900, help="seconds for one side on one model")
    parser.add_argument("--worker", choices=SIDES_OF_THE_TABLE, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        machine.write(options.out, machine.result_or_error(SIDES_OF_THE_TABLE[options.worker], options.models[0]))
        return
    chosen = {family: model for family, model in families().items() if model in (options.models or [model])}
    rows = []
    for family, model in chosen.items():
        sides = {
            side: machine.in_process(__file__, ["--worker", side, "--models", model], options.limit)
            for side in SIDES_OF_THE_TABLE
        }
        rows.append({"family": family, "model": model} | sides)
        print(_line(rows[-1]), flush=True)
        about = {"sparsity": SPARSITY, "steps": STEPS, "examples": EXAMPLES, "machine": machine.describe()}
        machine.write(options.out, about | {"rows": rows})  # after each, since all of them take long
    if options.page:
        names = ("keras", "tensorflow", "tf_keras", "tensorflow-model-optimization")
        options.page.write_text(page(rows, machine.versions(*names)), encoding="utf-8")


if __name__ == "__main__":
    main()
