"""Is a packed SavedModel smaller than a dense one, and as fast?

ResNet-18 and LeNet-300-100 with seeded random weights, pruned once by magnitude: bytes and time depend on the number of
zeros, not on the training. Each is exported dense and packed. Measured are: bytes; whether the outputs of both are
equal bit for bit, in a process that cannot import tfsparse and with `saved_model_cli run` (the session loader, which
TensorFlow Serving uses); seconds to load; seconds per call, both models in turns within one process.

    python benchmarks/saved_model.py --out benchmarks/results/saved_model.json --page docs/export.md
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import machine
import numpy as np
import slim_latency
import step_overhead
import tables
import tensorflow as tf

import tfsparse
from tfsparse.experiments.zoo import models
from tfsparse.export import packing, rewriting

MODELS = {
    "ResNet-18": ("resnet_18", (32, 32, 3), 10),
    "LeNet-300-100": ("lenet_300_100", (28, 28, 1), 10),
}
SPARSITIES = (0.8, 0.9, 0.95)
BATCHES, LOADS = (1, 32), 5
ELSEWHERE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tfsparse":
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import numpy as np
import tensorflow as tf

for directory in ("dense", "packed"):
    loaded = tf.saved_model.load(directory)
    np.save(directory + ".npy", loaded.serve(np.load("x.npy")))
"""


def measure(name: str, sparsity: float, rounds: int) -> dict:
    """Return all figures of one model at one sparsity."""
    architecture, shape, classes = MODELS[name]
    keras.utils.set_random_seed(0)
    model = models.build(architecture, shape, classes)
    tfsparse.prune(model, sparsity)
    images = np.random.default_rng(0).normal(size=(max(BATCHES), *shape)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        tfsparse.export(model, folder / "dense", dense=True)
        seconds = _seconds(lambda: tfsparse.export(model, folder / "packed"))
        np.save(folder / "x.npy", images[:4])
        checked = {"identical": identical(folder), "identical_in_a_session": identical_in_a_session(folder)}
        timed = {"export_seconds": seconds, "load_seconds": loading(folder), "latency": latency(folder, images, rounds)}
        weights = [array for _, array in rewriting.weights(folder / "dense")]
        packed = [a for a in weights if packing.sparse_parts(a) is not None]
        size = sizes(folder, weights, packed)
        return {"bytes": size, "rounded": rounded(folder, packed, size["left_as_they_are"])} | checked | timed


def sizes(folder: pathlib.Path, weights: list[np.ndarray], packed: list[np.ndarray]) -> dict:
    """Return bytes of the pruned weights before and after, and of the directories.

    Weights too small to be packed count in both. Keras writes every variable twice into the dense directory.
    """
    pruned = sum(a.nbytes for a in weights if a.ndim > 1)
    left = pruned - sum(a.nbytes for a in packed)
    graph = (folder / "dense" / "saved_model.pb").stat().st_size
    return {
        "weights": sum(a.nbytes for a in weights),
        "pruned_weights": pruned,
        "packed_weights": _assets(folder / "packed") + left,
        "left_as_they_are": left,
        "dense_directory": _bytes(folder / "dense"),
        "dense_once": graph + sum(a.nbytes for a in weights),
        "packed_directory": _bytes(folder / "packed"),
    }


def rounded(folder: pathlib.Path, packed: list[np.ndarray], left: int) -> dict:
    """Return bytes of the pruned weights in float16 and int8, with scales, and how much the outputs change.

    The change is relative to the largest output.
    """
    x, result = np.load(folder / "x.npy"), {}
    exact = _outputs(folder / "dense", x)
    for values in ("float16", "int8"):
        tfsparse.export(folder / "dense", folder / values, values=values)
        moved = np.max(np.abs(_outputs(folder / values, x) - exact)) / np.max(np.abs(exact))
        result[values] = {
            "packed_weights": _assets(folder / values) + packing.scale_bytes(packed, values) + left,
            "answers_moved": float(moved),
        }
    return result


def identical(folder: pathlib.Path) -> bool:
    """Return whether both directories give the same bits in a process without tfsparse."""
    _run(folder, "-c", ELSEWHERE)
    return (folder / "dense.npy").read_bytes() == (folder / "packed.npy").read_bytes()


def identical_in_a_session(folder: pathlib.Path) -> bool:
    """Return whether both directories give the same bits with `saved_model_cli run`."""
    name = next(iter(tf.saved_model.load(str(folder / "packed")).signatures["serve"].structured_input_signature[1]))
    for directory in ("dense", "packed"):
        where = ["--dir", directory, "--tag_set", "serve", "--signature_def", "serving_default"]
        inputs = ["--inputs", f"{name}=x.npy", "--outdir", f"cli_{directory}"]
        _run(folder, "-m", "tensorflow.python.tools.saved_model_cli", "run", *where, *inputs)
    dense, packed = (folder / f"cli_{d}" / "output_0.npy" for d in ("dense", "packed"))
    return dense.read_bytes() == packed.read_bytes()


def loading(folder: pathlib.Path) -> dict:
    """Return the seconds of `tf.saved_model.load`, measured in turns."""
    seconds = {"dense": [], "packed": []}
    for _ in range(LOADS):
        for directory, values in seconds.items():
            values.append(_seconds(lambda directory=directory: tf.saved_model.load(str(folder / directory))))
    return {directory: step_overhead.spread(values) for directory, values in seconds.items()}


def latency(folder: pathlib.Path, images: np.ndarray, rounds: int) -> dict:
    """Return seconds per call of both, and their ratio in the same round, by batch and clock."""
    loaded = {d: tf.saved_model.load(str(folder / d)) for d in ("dense", "packed")}
    result = {}
    for batch in BATCHES:
        x = tf.constant(images[:batch])
        runs = {name: lambda served=served, x=x: served.serve(x).numpy() for name, served in loaded.items()}
        turns = slim_latency.turns(runs, rounds)
        result[str(batch)] = {clock: _compared(turns, i) for i, clock in enumerate(slim_latency.CLOCKS)}
    return result


def _compared(turns, clock):
    dense, packed = ([pair[clock] for pair in turns[name]] for name in ("dense", "packed"))
    return {
        "dense": step_overhead.spread(dense),
        "packed": step_overhead.spread(packed),
        "ratio": step_overhead.spread([p / d for p, d in zip(packed, dense, strict=True)]),
    }


def _outputs(directory, x):
    loaded = tf.saved_model.load(str(directory))
    return loaded.serve(x).numpy()


def _bytes(directory):
    return sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())


def _assets(directory):
    return sum(f.stat().st_size for f in directory.glob("assets/*"))


def _seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _run(folder, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True, env=environment)


def size_line(name: str, sparsity: str, r: dict) -> list[str]:
    """Return a row of the table of sizes."""
    size = r["bytes"]
    weights = [f"{size['pruned_weights']:,}", f"{size['packed_weights']:,}"]
    whole = [f"{size[key]:,}" for key in ("dense_directory", "packed_directory")]
    ratios = [size["dense_directory"] / size["packed_directory"], size["dense_once"] / size["packed_directory"]]
    times = f"{size['pruned_weights'] / size['packed_weights']:.1f}x"
    return [name, sparsity, *weights, times, *whole, *(f"{ratio:.1f}x" for ratio in ratios)]


def rounded_line(name: str, sparsity: str, r: dict) -> list[str]:
    """Return a row of the table of rounded values."""
    cells, raw = [], r["bytes"]["pruned_weights"]
    for values in r["rounded"].values():
        cells += [f"{raw / values['packed_weights']:.1f}x", f"{values['answers_moved']:.1e}"]
    return [name, sparsity, *cells]


def time_line(name: str, sparsity: str, r: dict) -> list[str]:
    """Return a row of the table of times."""
    load = [f"{1000 * r['load_seconds'][d]['median']:.0f}" for d in ("dense", "packed")]
    calls = []
    for batch in r["latency"].values():
        calls += [f"{1000 * batch['wall']['dense']['median']:.2f}", step_overhead.ratio(batch["wall"]["ratio"])]
    same = "yes" if r["identical"] and r["identical_in_a_session"] else "no"
    return [name, sparsity, same, *load, *calls]


def write_page(page: str, results: dict) -> None:
    """Write the three tables between their markers."""
    rows = [(name, f"{float(s):.0%}", r) for name, runs in results["models"].items() for s, r in runs.items()]
    weights = ("pruned weights, bytes", "packed", "times smaller")
    directories = ("dense directory, bytes", "packed directory", "times smaller", "variables counted once")
    titles = ("model", "zeros", *weights, *directories)
    tables.write(page, "export sizes", tables.markdown(titles, [size_line(*row) for row in rows]))
    titles = ("model", "zeros", "float16: times smaller", "answers move by", "int8: times smaller", "answers move by")
    tables.write(page, "rounded", tables.markdown(titles, [rounded_line(*row) for row in rows]))
    calls = [f"batch {b}: {what}" for b in BATCHES for what in ("dense, ms", "packed / dense")]
    titles = ("model", "zeros", "same bits", "dense loads in, ms", "packed loads in, ms", *calls)
    tables.write(page, "export times", tables.markdown(titles, [time_line(*row) for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="where to write the JSON")
    parser.add_argument("--page", help="page of the documentation to put the tables into")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    versions = machine.versions("keras", "tensorflow")
    results = {"machine": machine.describe(), "versions": versions, "rounds": options.rounds, "models": {}}
    for name in options.models:
        results["models"][name] = {}
        for sparsity in SPARSITIES:
            result = results["models"][name][str(sparsity)] = measure(name, sparsity, options.rounds)
            results["machine_after"] = machine.describe()
            machine.write(options.out, results)
            for line in (size_line, rounded_line, time_line):
                print(*line(name, str(sparsity), result), sep=" | ", flush=True)
    if options.page:
        write_page(options.page, results)


if __name__ == "__main__":
    main()
