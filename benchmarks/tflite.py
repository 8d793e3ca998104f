"""Is a sparse TFLite file smaller and faster than a dense one?

Six parts, each on one thread, variants in turns within one process as in `slim_latency.py`:

    trained        a perceptron with four layers of 2048, trained on MNIST by One-Cycle Pruning in blocks of (1, 4):
                   accuracy, bytes, and seconds per call beside the dense TFLite file of the same model
    kernel         three layers of random weights, by width and sparsity: when is the sparse kernel faster?
    cache          more and fewer layers of random weights: does the size of the layer count, or that of the network?
    convolutions   ResNet-20 of random weights, pruned once: bytes and seconds
    converter      TFLite's own EXPERIMENTAL_SPARSITY: how far are the outputs of its files from the model's?
    integers       its kernel for int8 in blocks of (1, 16), which tfsparse does not use: is it faster?

What is in the JSON already is not measured again. Trainings are resumed (10 minutes each on a shared CPU core):

    TFDS_DATA_DIR=... python benchmarks/tflite.py --runs runs/tflite --page docs/tflite.md
"""

import argparse
import gzip
import json
import os
import pathlib
import tempfile
import warnings
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import machine
import numpy as np
import slim_latency
import step_overhead
import tables
import tensorflow as tf
import trainings

import tfsparse
from tfsparse.experiments.zoo import data, models
from tfsparse.export import tflite_file, tflite_rules
from tfsparse.export.tflite import TFLiteFile

ROOT = pathlib.Path(__file__).parent.parent
OUT = ROOT / "benchmarks" / "results" / "tflite.json"
SPARSITIES, VALUES, BATCHES = (0.8, 0.9, 0.95), ("float32", "float16", "int8"), (1, 16, 64)
TRAINING = ("data.batch_size=256", "epochs=2", "model={name: mlp, widths: [2048, 2048, 2048, 2048]}")
PRUNER = "prune.pruner={name: magnitude, granularity: [1, 4]}"
NETWORKS, CACHE_SPARSITIES = ((3, 256), (3, 384), (12, 256), (3, 512), (24, 256), (48, 128)), (0.75, 0.8, 0.9, 0.95)
PARTS = ("converter", "integers", "kernel", "cache", "convolutions", "reference", "trained")
WIDTHS, KERNEL_SPARSITIES = (256, 512, 1024, 2048), (0.5, 0.6, 0.7, 0.8, 0.9)
PATTERNS = {"weights": "weight", "blocks of (1, 4)": (1, 4), "blocks of (1, 16)": (1, 16)}


def trained(sparsity: float, options) -> dict:
    """Return accuracy of the model and of its files, their bytes, and seconds per call."""
    result = options.runs / f"{sparsity}.json"
    sets = (*TRAINING, PRUNER, f"prune.sparsity={sparsity}")
    trainings.train("mnist_lenet300_one_cycle", result, options.runs, str(sparsity), *sets)
    run = json.loads(result.read_text())
    model = keras.models.load_model(options.runs / str(sparsity) / "model.keras")
    images, labels = _test_images()
    figures = {"accuracy": run["summary"]["accuracy"], "sparsity": run["report"]["sparsity"], "config": run["config"]}
    figures["files"] = _compared(model, images, labels, options.rounds)
    return figures


def reference(options) -> dict:
    """Return the accuracy of the same training without pruning."""
    result = options.runs / "dense.json"
    trainings.train("mnist_lenet300_dense", result, options.runs, "dense", *TRAINING)
    return {"accuracy": json.loads(result.read_text())["summary"]["accuracy"]}


def _compared(model, images, labels, rounds):
    """Compare the dense file and the sparse one, for each type of values."""
    result = {}
    for values in VALUES:
        dense = dense_file(model, values, images)
        sparse, exported = sparse_file(model, values, images)
        files = {"dense": dense, "sparse": sparse}
        result[values] = {
            "bytes": {name: len(file) for name, file in files.items()},
            "gzip": {name: len(gzip.compress(file, 9)) for name, file in files.items()},
            "difference": exported.difference,
            "tensors": exported.as_dict()["tensors"],
            "latency": {str(b): latency(files, images[:b], rounds) for b in (BATCHES if values == "float32" else (1,))},
        }
        if labels is not None:
            result[values]["accuracy"] = float(np.mean(np.argmax(outputs(sparse, images), axis=-1) == labels))
    return result


def kernel(width: int, rounds: int) -> dict:
    """Time the sparse kernel and unpacked weights beside the dense file, at each sparsity."""
    result, image = {}, np.random.default_rng(0).normal(size=(1, width)).astype("float32")
    for sparsity in KERNEL_SPARSITIES:
        dense = dense_file(perceptron(width, sparsity, (1, 4)), "float32")
        files = {"dense": dense}
        for name, threshold in (("kernel", 0.0), ("unpacked", 2.0)):
            with mock.patch.object(tflite_rules, "KERNEL_MIN_SPARSITY", threshold):
                files[name] = tflite_file.sparsify(dense)
        result[str(sparsity)] = latency(files, image, rounds)
    return result


def cache(layers: int, width: int, rounds: int) -> dict:
    """Time the sparse kernel in a network of `layers` square layers, at each sparsity."""
    result, image = {}, np.random.default_rng(0).normal(size=(1, width)).astype("float32")
    for sparsity in CACHE_SPARSITIES:
        dense = dense_file(perceptron(width, sparsity, (1, 4), layers), "float32")
        result[str(sparsity)] = latency({"dense": dense, "sparse": tflite_file.sparsify(dense)}, image, rounds)
    return {"bytes": 4 * layers * width**2, "latency": result}


def convolutions(sparsity: float, rounds: int) -> dict:
    """Compare the files of a network of convolutions."""
    keras.utils.set_random_seed(0)
    model = models.build("resnet_20", (32, 32, 3), 10)
    tfsparse.prune(model, sparsity)
    images = np.random.default_rng(0).normal(size=(max(BATCHES), 32, 32, 3)).astype("float32")
    return _compared(model, images, None, rounds)


def converter() -> dict:
    """Return the largest difference of outputs, or the error, by pattern and values, beside that of a dense file."""
    result, x = {}, np.random.default_rng(0).normal(size=(16, 256)).astype("float32")
    for name, granularity in PATTERNS.items():
        model = perceptron(256, 0.9, granularity)
        expected = model.predict(x, verbose=0)
        for values, examples in (*((v, x) for v in VALUES), ("int8", None)):
            title = "int8, weights only" if examples is None else values
            files = {flag: dense_file(model, values, examples, flag) for flag in (True, False)}
            result[f"{name}: {title}"] = {
                "largest answer": float(np.abs(expected).max()),
                "dense": _largest_difference(files[False], x, expected),
                "EXPERIMENTAL_SPARSITY": _largest_difference(files[True], x, expected),
            }
    return result


def integers(sparsity: float, rounds: int) -> dict:
    """Time the converter's dense and sparse file of int8 in blocks of (1, 16)."""
    model = perceptron(max(WIDTHS), sparsity, (1, 16))
    images = np.random.default_rng(0).normal(size=(200, max(WIDTHS))).astype("float32")
    files = {"dense": dense_file(model, "int8", images), "sparse": dense_file(model, "int8", images, sparsity=True)}
    return {"latency": {"1": latency(files, images[:1], rounds)}}


def _largest_difference(file, x, expected):
    try:
        return str(float(np.max(np.abs(outputs(file, x) - expected))))
    except RuntimeError as error:
        return str(error).strip().splitlines()[-1]


def perceptron(width: int, sparsity: float, granularity, layers: int = 3) -> keras.Model:
    """Return a network of square layers, seeded and pruned once."""
    keras.utils.set_random_seed(0)
    stack = [keras.layers.Dense(width, activation="relu") for _ in range(layers)]
    model = keras.Sequential([keras.Input((width,)), *stack])
    tfsparse.prune(model, sparsity, pruner=tfsparse.Magnitude(granularity, "layer"))
    return model


def dense_file(model, values: str, images=None, sparsity: bool = False) -> bytes:
    """Return the file of TFLite's converter. int8 without images has integer weights and float activations."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    optimize = tf.lite.Optimize
    converter.optimizations = [optimize.DEFAULT] * (values != "float32") + [optimize.EXPERIMENTAL_SPARSITY] * sparsity
    if values == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if values == "int8" and images is not None:
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in images[:200])
    return converter.convert()


def sparse_file(model, values: str, images) -> tuple[bytes, TFLiteFile]:
    """Return the file of `export_tflite`, and what it says of it."""
    with tempfile.TemporaryDirectory() as folder:
        exported = tfsparse.export_tflite(model, pathlib.Path(folder) / "sparse.tflite", values, images[:200])
        return exported.path.read_bytes(), exported


def prepared(file: bytes, batch: np.ndarray):
    """Return a function that runs a file on one thread, on batches of this shape, and returns its outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_content=file, num_threads=1)
    index, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(index, batch.shape)
    interpreter.allocate_tensors()

    def run(inputs=batch):
        interpreter.set_tensor(index, inputs)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return run


def outputs(file: bytes, images: np.ndarray) -> np.ndarray:
    """Return the outputs for one image after the other."""
    run = prepared(file, images[:1])
    return np.concatenate([run(image[np.newaxis]) for image in images])


def latency(files: dict[str, bytes], batch: np.ndarray, rounds: int) -> dict:
    """Return seconds per call and times faster than the dense file, by clock."""
    seconds = slim_latency.turns({name: prepared(file, batch) for name, file in files.items()}, rounds)
    by_clock = {c: {k: [pair[i] for pair in v] for k, v in seconds.items()} for i, c in enumerate(slim_latency.CLOCKS)}
    return {clock: slim_latency.times_faster(values) for clock, values in by_clock.items()}


def _test_images():
    batches = list(data.load("mnist", batch_size=256).validation.as_numpy_iterator())
    return tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True))


def size_line(name: str, values: str, r: dict) -> list[str]:
    """Return a row of a table of sizes."""
    size, packed = r["bytes"], r["gzip"]
    correct = f"{100 * r['accuracy']:.2f} %" if "accuracy" in r else "-"
    whole = [f"{size['dense']:,}", f"{size['sparse']:,}", f"{size['dense'] / size['sparse']:.1f}x"]
    return [name, values, correct, f"{r['difference']:.1e}", *whole, f"{packed['dense']:,}", f"{packed['sparse']:,}"]


def time_line(name: str, values: str, r: dict) -> list[str]:
    """Return a row of a table of seconds for one example."""
    clocks = r["latency"]["1"]
    times = [f"{1000 * clocks['wall']['seconds'][file]['median']:.2f}" for file in ("dense", "sparse")]
    return [name, values, *times, *(step_overhead.ratio(m["times_faster"]["sparse"]) for m in clocks.values())]


SIZES = ("zeros", "values", "accuracy of the file", "off the model by", "dense, bytes", "sparse", "times smaller")
SIZES += ("dense, gzip", "sparse, gzip")
TIMES = ("zeros", "values", "dense, ms", "sparse, ms", "times faster, wall", "times faster, processor")


def _percent(sparsity):
    return f"{float(sparsity):.0%}"


def write_page(page: str, results: dict) -> None:
    """Write all tables between their markers."""
    dense = ["none, trained dense", "float32", f"{100 * results['reference']['accuracy']:.2f} %", *["-"] * 6]
    for part, first in (("trained", [dense]), ("convolutions", [])):
        files = [(_percent(s), v, f) for s, r in results[part].items() for v, f in r.get("files", r).items()]
        tables.write(page, f"tflite {part}", tables.markdown(SIZES, first + [size_line(*file) for file in files]))
        tables.write(page, f"tflite {part} times", tables.markdown(TIMES, [time_line(*file) for file in files]))
    times = [time_line(_percent(s), "int8, blocks of (1, 16)", r) for s, r in results["integers"].items()]
    tables.write(page, "tflite integers", tables.markdown(TIMES, times))
    batches = {s: r["files"]["float32"]["latency"] for s, r in results["trained"].items()}
    rows = [[_percent(s), *(_faster(r[str(b)], "sparse") for b in BATCHES)] for s, r in batches.items()]
    tables.write(page, "tflite batches", tables.markdown(("zeros", *(f"batch {b}" for b in BATCHES)), rows))
    rows = [
        [f"{width} x {width}", *(_faster(r[str(s)], name) for s in KERNEL_SPARSITIES), title]
        for name, title in (("kernel", "sparse kernel"), ("unpacked", "unpacked"))
        for width, r in results["kernel"].items()
    ]
    titles = ("weights", *map(_percent, KERNEL_SPARSITIES), "run by")
    tables.write(page, "tflite kernel", tables.markdown(titles, rows))
    titles = ("layers", "their weights, dense, MB", *map(_percent, CACHE_SPARSITIES))
    rows = [
        [name, f"{r['bytes'] / 1e6:.1f}", *(_faster(measured, "sparse") for measured in r["latency"].values())]
        for name, r in results["cache"].items()
    ]
    tables.write(page, "tflite cache", tables.markdown(titles, rows))
    rows = [[name, *(_short(r[key]) for key in r)] for name, r in results["converter"].items()]
    titles = ("90 % zeros in: values", "largest answer", "dense file: off by", "EXPERIMENTAL_SPARSITY: off by")
    tables.write(page, "tflite converter", tables.markdown(titles, rows))


def _faster(measured, name):
    return step_overhead.ratio(measured["wall"]["times_faster"][name])


def _short(answer):
    try:
        return f"{float(answer):.1e}"
    except ValueError:
        return f"does not run: {answer}"


def steps(options) -> dict:
    """Return what can be measured: `{(part, key): function}`."""
    files = {("trained", str(s)): lambda s=s: trained(s, options) for s in SPARSITIES}
    nets = {("convolutions", str(s)): lambda s=s: convolutions(s, options.rounds) for s in SPARSITIES}
    eights = {("integers", str(s)): lambda s=s: integers(s, options.rounds) for s in SPARSITIES}
    kernels = {("kernel", str(w)): lambda w=w: kernel(w, options.rounds) for w in WIDTHS}
    networks = {("cache", f"{n} of {w} x {w}"): lambda n=n, w=w: cache(n, w, options.rounds) for n, w in NETWORKS}
    alone = {("converter", None): converter, ("reference", None): lambda: reference(options)}
    return alone | eights | kernels | networks | nets | files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=OUT, help="where to write the JSON")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/tflite"), help="where trainings lie")
    parser.add_argument("--page", help="page of the documentation to put the tables into")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    options.runs = options.runs.resolve()
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    results.setdefault("versions", machine.versions("keras", "tensorflow"))
    for (part, key), measure in steps(options).items():
        done = results if key is None else results.setdefault(part, {})
        name = part if key is None else key
        if part in options.parts and name not in done:
            before = machine.describe()
            done[name] = measure()
            results.setdefault("machine", {})[f"{part} {name}"] = {"before": before, "after": machine.describe()}
            machine.write(options.out, results)
            print(part, name, flush=True)
    if options.page:
        write_page(options.page, results)


if __name__ == "__main__":
    main()
