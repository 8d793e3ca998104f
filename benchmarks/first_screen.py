"""The picture and the figures of README's first screen: its first code block, run as it stands and at other sparsities.

Runs the block on MNIST with LeNet-300-100, three seeds, densely and from 50 to 99 % zeros. It keeps the accuracy on the
test set, the zeros that `report` counts and the bytes of the SavedModel that the block exports. These are compared with
the bytes of the weights as float32, since Keras writes each weight of a dense SavedModel twice. Then it writes the
sentences of the README and draws its picture. What is finished is not run again. About 25 minutes on one CPU core:

    TFDS_DATA_DIR=... python benchmarks/first_screen.py            # run what is missing, then write
    python benchmarks/first_screen.py --tables                     # only write
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import tempfile

import tables

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "first_screen"
PICTURE = ROOT / "docs" / "first_screen.png"
SEEDS, SPARSITIES, SHOWN = (0, 1, 2), (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99), 0.9


def block(sparsity: float) -> str:
    """README's first block of Python with another sparsity; for 0 without pruning."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    if sparsity == 0:
        return re.sub(r"callbacks=\[.*\]", "callbacks=[]", code)
    return code.replace(f"sparsity={SHOWN}", f"sparsity={sparsity}")


def network(seed: int):
    """LeNet-300-100, not compiled."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(units, "relu") for units in (300, 100)]
    return keras.Sequential([keras.Input((784,)), *layers, keras.layers.Dense(10, "softmax")])


def images(split: str):
    """MNIST as vectors, standardised as in the table of `docs/mnist.md`, and the labels."""
    import tensorflow_datasets as tfds

    x, y = tfds.as_numpy(tfds.load("mnist", split=split, batch_size=-1, as_supervised=True))
    return (x.reshape(len(x), -1).astype("float32") / 255 - 0.1307) / 0.3081, y


def run(sparsity: float, seed: int) -> dict:
    """Run the block in an empty folder."""
    names = {"model": network(seed)}
    names["x"], names["y"] = images("train")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        exec(block(sparsity), names)
        size = sum(file.stat().st_size for file in pathlib.Path("out/savedmodel").rglob("*") if file.is_file())
        os.chdir(ROOT)
    model, report = names["model"], names["tfsparse"].report
    return {
        "accuracy": model.evaluate(*images("test"), verbose=0)[1],
        "sparsity": report(model).sparsity,
        "bytes": size,
        "weight_bytes": 4 * model.count_params(),
    }


def results() -> dict[float, list[dict]]:
    """The results of all seeds at each sparsity."""
    return {s: [json.loads(_file(s, seed).read_text()) for seed in SEEDS] for s in SPARSITIES}


def sentences(found: dict[float, list[dict]]) -> str:
    """The three figures below the picture."""
    dense, sparse = found[0.0], found[SHOWN]
    accuracy, dense_accuracy = (tables.mean([100 * r["accuracy"] for r in runs]) for runs in (sparse, dense))
    size, weights = (statistics.mean(r[key] for r in sparse) for key in ("bytes", "weight_bytes"))
    (zeros,) = {f"{100 * r['sparsity']:.2f}" for r in sparse}
    return (
        f"- **{accuracy} %** accuracy on the test set; the same training without pruning: {dense_accuracy} %\n"
        f"- **{zeros} %** zeros, as asked\n"
        f"- **{size / 1e3:,.0f} kB** as a SavedModel; the weights as float32 take {weights / 1e3:,.0f} kB, "
        f"{weights / size:.1f} times as much"
    )


def draw(found: dict[float, list[dict]]) -> None:
    """Accuracy and bytes against sparsity, both with the dense line."""
    from matplotlib import ticker
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained", dpi=150)
    accuracy, size = figure.subplots(1, 2)
    sparse = {s: runs for s, runs in found.items() if s}
    panels = (
        (accuracy, "accuracy", "accuracy", 100, "C0", "dense"),
        (size, "bytes", "weight_bytes", 1e-3, "C1", "weights as float32"),
    )
    for axes, key, dense_key, factor, color, dense in panels:
        values = {s: [factor * r[key] for r in runs] for s, runs in found.items()}
        level = factor * statistics.mean(r[dense_key] for r in found[0.0])
        axes.axhline(level, color="0.4", linestyle="--", label=dense)
        axes.fill_between([*sparse], [min(values[s]) for s in sparse], [max(values[s]) for s in sparse], alpha=0.2)
        axes.plot([*sparse], [statistics.mean(values[s]) for s in sparse], "o-", color=color, label="tfsparse.Prune")
        axes.set_xscale("function", functions=(_stretched, _unstretched))
        axes.xaxis.set_major_locator(ticker.FixedLocator([*sparse]))
        axes.xaxis.set_major_formatter(ticker.PercentFormatter(1, decimals=0))
        axes.set_xlabel("zeros")
        axes.grid(alpha=0.3)
    accuracy.set(ylabel="accuracy on the test set, %", title="accuracy", ylim=(96.5, 99))
    size.set(ylabel="SavedModel, kB", title="bytes", ylim=(0, None))
    accuracy.legend(loc="lower left")
    size.legend(loc="upper right", bbox_to_anchor=(1, 0.95))
    figure.savefig(PICTURE)


def _stretched(sparsity):
    import numpy as np

    return -np.log2(np.clip(1 - sparsity, 1e-4, None))  # each halving of what is left is one step


def _unstretched(steps):
    return 1 - 2.0**-steps


def _file(sparsity, seed):
    return RESULTS / f"{sparsity}-seed{seed}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="only write the sentences and the picture")
    if not parser.parse_args().tables:
        for seed in SEEDS:
            for sparsity in (SHOWN, *SPARSITIES):
                if not _file(sparsity, seed).exists():
                    RESULTS.mkdir(parents=True, exist_ok=True)
                    _file(sparsity, seed).write_text(json.dumps(run(sparsity, seed)) + "\n")
    found = results()
    tables.write("README.md", "first-screen", sentences(found))
    draw(found)


if __name__ == "__main__":
    main()
