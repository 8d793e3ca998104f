"""Packages that `pip install tfsparse` leaves out, and what works without them."""

# By the names that are imported, and by those that pip lists.
OPTIONAL = {
    "typer": "typer",
    "pydantic": "pydantic",
    "yaml": "pyyaml",
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "tensorboard": "tensorboard",
    "tensorflow_datasets": "tensorflow-datasets",
    "sklearn": "scikit-learn",
}

CORE = """
import numpy as np, keras, tfsparse
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(4)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
x, y = np.random.default_rng(0).normal(size=(64, 8)), np.arange(64) % 4
callbacks = [tfsparse.Prune(sparsity=0.75), tfsparse.SparsityLogger()]
model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=callbacks)
print(tfsparse.report(model))
tfsparse.export(model, OUT)
"""


def blocked() -> str:
    """Return Python code that makes every import of an optional package fail in the process that runs it."""
    return f"""
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {(*OPTIONAL,)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
