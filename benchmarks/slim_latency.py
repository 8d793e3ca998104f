"""How much faster does a model of half the multiply-adds run?

`tfsparse.slim(model, flops=0.5)` with widths as they come and in multiples of 8, beside the dense model: as a
TensorFlow SavedModel (`model.export`, the serving function) and as TFLite (XNNPACK), both on one thread with a batch of
one image. All variants take turns within one process, so that a ratio is one of neighbours in time and holds while the
machine's speed drifts. The ratio of processor times, given beside that of the clock, says the same where other programs
run too (`nice` keeps them from disturbing).

    python benchmarks/slim_latency.py --out benchmarks/results/slim_latency.json --page docs/shrinking.md
"""

import argparse
import os
import pathlib
import tempfile
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import machine
import numpy as np
import step_overhead
import tables
import tensorflow as tf

import tfsparse
from tfsparse.doctor import timing
from tfsparse.experiments.zoo import models
from tfsparse.structured import Channels

SUBJECTS = {
    "MobileNetV2, 224x224": ("mobilenetv2", (224, 224, 3), 1000),
    "ResNet-18, 32x32": ("resnet_18", (32, 32, 3), 10),
    "ResNet-18, 224x224": ("resnet_18", (224, 224, 3), 1000),
}
FLOPS, MULTIPLE, WINDOW = 0.5, 8, 0.3  # a window: seconds of one measurement
RUNTIMES = {"saved_model": "SavedModel", "tflite": "TFLite"}
CLOCKS = ("wall", "processor")
TITLES = ("model", "runtime", "clock", "dense, ms", "half the FLOPs: times faster", "in multiples of 8: times faster")
Run = Callable[[], None]


def variants(architecture: str, shape: tuple[int, ...], classes: int) -> dict[str, keras.Model]:
    """The dense model and its slim ones."""
    keras.utils.set_random_seed(0)
    dense = models.build(architecture, shape, classes)
    slim = {f"multiple {m}": tfsparse.slim(dense, flops=FLOPS, multiple=m) for m in (1, MULTIPLE)}
    return {"dense": dense} | slim


def saved_model(model: keras.Model, image: np.ndarray) -> Run:
    """The serving function of the exported model."""
    with tempfile.TemporaryDirectory() as directory:
        model.export(directory, verbose=False)
        loaded = tf.saved_model.load(directory)
    tensor = tf.constant(image)
    return lambda: loaded.serve(tensor).numpy()


def tflite(model: keras.Model, image: np.ndarray) -> Run:
    """TFLite's interpreter with XNNPACK, which it applies by itself, on one thread."""
    interpreter = tf.lite.Interpreter(
        model_content=tf.lite.TFLiteConverter.from_keras_model(model).convert(), num_threads=1
    )
    interpreter.allocate_tensors()
    place, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run():
        interpreter.set_tensor(place, image)
        interpreter.invoke()
        interpreter.get_tensor(result)

    return run


def measure(name: str, rounds: int) -> dict:
    """Sizes of every variant, and seconds per image in both runtimes."""
    architecture, shape, classes = SUBJECTS[name]
    chosen = variants(architecture, shape, classes)
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype("float32")
    sizes = {k: {"parameters": m.count_params(), "macs": Channels(m).macs()} for k, m in chosen.items()}
    timed = {}
    for runtime, prepare in (("saved_model", saved_model), ("tflite", tflite)):
        seconds = turns({k: prepare(m, image) for k, m in chosen.items()}, rounds)
        by_clock = {c: {k: [pair[i] for pair in v] for k, v in seconds.items()} for i, c in enumerate(CLOCKS)}
        timed[runtime] = {clock: times_faster(values) for clock, values in by_clock.items()}
    return {"sizes": sizes} | timed


def turns(runs: dict[str, Run], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds per call by both clocks; every round begins with another variant."""
    return timing.time_in_turns(runs, rounds, WINDOW)


def times_faster(seconds: dict[str, list[float]]) -> dict:
    """Spread of the seconds per image, and of the dense model's over the slim one's of the same round."""
    faster = {
        name: step_overhead.spread([d / s for d, s in zip(seconds["dense"], values, strict=True)])
        for name, values in seconds.items()
        if name != "dense"
    }
    return {
        "seconds": {name: step_overhead.spread(values) for name, values in seconds.items()},
        "times_faster": faster,
    }


def lines(name: str, result: dict) -> list[list[str]]:
    """Rows of the table."""
    rows = []
    for runtime, title in RUNTIMES.items():
        for clock in CLOCKS:
            measured = result[runtime][clock]
            dense = f"{1000 * measured['seconds']['dense']['median']:.2f}"
            ratios = [step_overhead.ratio(measured["times_faster"][f"multiple {m}"]) for m in (1, MULTIPLE)]
            rows.append([name, title, clock, dense, *ratios])
    return rows


def size_lines(name: str, sizes: dict) -> list[list[str]]:
    """Rows of the table of sizes."""
    return [
        [name, variant, f"{s['parameters']:,}", f"{s['macs']:,}", f"{s['macs'] / sizes['dense']['macs']:.3f}"]
        for variant, s in sizes.items()
    ]


def write_page(page: str, results: dict) -> None:
    """Both tables, between their markers."""
    timed = [line for name, r in results["models"].items() for line in lines(name, r)]
    sizes = [line for name, r in results["models"].items() for line in size_lines(name, r["sizes"])]
    tables.write(page, "latency", tables.markdown(TITLES, timed))
    titles = ("model", "variant", "parameters", "MACs", "of the dense model's MACs")
    tables.write(page, "slim sizes", tables.markdown(titles, sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="where to write the JSON")
    parser.add_argument("--page", help="page of the documentation to put the tables into")
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    versions = machine.versions("keras", "tensorflow")
    results = {"machine": machine.describe(), "versions": versions, "rounds": options.rounds, "models": {}}
    for name in options.models:
        results["models"][name] = measure(name, options.rounds)
        results["machine_after"] = machine.describe()
        machine.write(options.out, results)
        for cells in lines(name, results["models"][name]):
            print(*cells, sep=" | ", flush=True)
    if options.page:
        write_page(options.page, results)


if __name__ == "__main__":
    main()
