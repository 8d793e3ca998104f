"""How accurate is README's first code block, run as it stands?

Runs the block on MNIST with LeNet-300-100, three seeds, and writes the accuracy on the test set into the README. What
is finished is not run again. About 3 minutes on two CPU cores:

    TFDS_DATA_DIR=... python benchmarks/readme_block.py            # run what is missing, then write the sentence
    python benchmarks/readme_block.py --tables                     # only the sentence
"""

import argparse
import json
import os
import pathlib
import re
import tempfile

import tables

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "readme_block"
SEEDS = (0, 1, 2)


def block() -> str:
    """The first block of Python in the README."""
    return re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)


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


def run(seed: int) -> None:
    """Run the block in an empty folder and keep the accuracy."""
    names = {"model": network(seed)}
    names["x"], names["y"] = images("train")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        exec(block(), names)
        os.chdir(ROOT)
    accuracy = names["model"].evaluate(*images("test"), verbose=0)[1]
    sparsity = names["tfsparse"].report(names["model"]).sparsity
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"seed{seed}.json").write_text(json.dumps({"accuracy": accuracy, "sparsity": sparsity}) + "\n")


def write_tables() -> None:
    """Put the sentence between its markers in the README."""
    runs = [json.loads((RESULTS / f"seed{seed}.json").read_text()) for seed in SEEDS]
    accuracy, zeros = tables.mean([100 * r["accuracy"] for r in runs]), {f"{r['sparsity']:.4f}" for r in runs}
    sentence = (
        f"On MNIST, with LeNet-300-100, this block reaches {accuracy} % on the test set with {', '.join(zeros)} zeros "
        "(three seeds, CPU)."
    )
    tables.write("README.md", "readme-block", sentence)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="only write the sentence")
    if not parser.parse_args().tables:
        for seed in SEEDS:
            if not (RESULTS / f"seed{seed}.json").exists():
                run(seed)
    write_tables()
